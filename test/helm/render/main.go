// Renders a chart as `helm template` does, for machines without helm: text/template with sprig, helm's own functions
// and its built-in objects. Reads from standard input {"chart": folder, "renders": [...]} and writes, in the same
// order, the files of each, or its error. Every text is written once, because most files are the same in every render.
// Features of helm that the chart does not use (the order of hooks, dependencies) are left out.
// A test compares the two if helm is on the PATH.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"
	"sigs.k8s.io/yaml"
)

type request struct {
	Chart   string   `json:"chart"`
	Renders []render `json:"renders"`
}

type render struct {
	Values      map[string]interface{} `json:"values"`
	Name        string                 `json:"name"`
	Namespace   string                 `json:"namespace"`
	IsUpgrade   bool                   `json:"isUpgrade"`
	KubeVersion string                 `json:"kubeVersion"`
	APIVersions versions               `json:"apiVersions"`
	// What lookup finds, as in an upgrade. By kind and name: "StatefulSet shop".
	Cluster map[string]map[string]interface{} `json:"cluster"`
}

type answer struct {
	Texts   []string `json:"texts"`
	Results []result `json:"results"`
}

type result struct {
	// By name, the index of the text.
	Files map[string]int `json:"files,omitempty"`
	Error string         `json:"error,omitempty"`
}

type versions []string

// Has says whether the cluster knows the version, such as monitoring.coreos.com/v1.
func (v versions) Has(wanted string) bool {
	for _, version := range v {
		if version == wanted {
			return true
		}
	}
	return false
}

type kubeVersion struct{ Version, Major, Minor string }

func (v kubeVersion) String() string { return v.Version }

// files are those of the chart that are not templates.
type files map[string]string

func (f files) Get(name string) string { return f[name] }

func main() {
	var asked request
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		fail(err)
	}
	chart, err := load(asked.Chart)
	if err != nil {
		fail(err)
	}
	reply := answer{Results: make([]result, len(asked.Renders))}
	indices := map[string]int{}
	for i, one := range asked.Renders {
		out, err := chart.render(one)
		if err != nil {
			reply.Results[i].Error = err.Error()
			continue
		}
		reply.Results[i].Files = map[string]int{}
		for name, text := range out {
			index, known := indices[text]
			if !known {
				index = len(reply.Texts)
				indices[text] = index
				reply.Texts = append(reply.Texts, text)
			}
			reply.Results[i].Files[name] = index
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(reply); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

type chart struct {
	about map[string]interface{}
	base  *template.Template
	files files
}

func load(folder string) (*chart, error) {
	loaded := &chart{files: files{}, base: template.New("chart").Option("missingkey=zero").Funcs(functions(nil))}
	err := filepath.Walk(folder, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		name, _ := filepath.Rel(folder, path)
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(name, "templates/") {
			loaded.files[name] = string(text)
			return nil
		}
		_, err = loaded.base.New(name).Parse(string(text))
		return err
	})
	if err != nil {
		return nil, err
	}
	about := map[string]interface{}{}
	if err := yaml.Unmarshal([]byte(loaded.files["Chart.yaml"]), &about); err != nil {
		return nil, err
	}
	loaded.about = map[string]interface{}{}
	for key, value := range about {
		loaded.about[strings.ToUpper(key[:1])+key[1:]] = value
	}
	return loaded, nil
}

func (c *chart) render(asked render) (map[string]string, error) {
	t, err := c.base.Clone()
	if err != nil {
		return nil, err
	}
	t.Funcs(functions(t))
	// As in helm: an empty map if there is no such object, or no cluster to ask.
	t.Funcs(template.FuncMap{"lookup": func(_, kind, _, name string) map[string]interface{} {
		return asked.Cluster[kind+" "+name]
	}})
	parts := strings.Split(strings.TrimPrefix(asked.KubeVersion, "v"), ".")
	context := map[string]interface{}{
		"Values": asked.Values,
		"Chart":  c.about,
		"Files":  c.files,
		"Release": map[string]interface{}{
			"Name": asked.Name, "Namespace": asked.Namespace, "Service": "Helm", "Revision": 1,
			"IsInstall": !asked.IsUpgrade, "IsUpgrade": asked.IsUpgrade,
		},
		"Capabilities": map[string]interface{}{
			"KubeVersion": kubeVersion{asked.KubeVersion, parts[0], parts[1]},
			"APIVersions": asked.APIVersions,
		},
	}
	out := map[string]string{}
	for _, one := range t.Templates() {
		name := one.Name()
		if !strings.HasPrefix(name, "templates/") || strings.HasPrefix(filepath.Base(name), "_") {
			continue
		}
		// Templates may change their input (set, merge): every file starts with the same.
		own := map[string]interface{}{
			"Template": map[string]interface{}{"Name": c.about["Name"].(string) + "/" + name, "BasePath": "templates"},
		}
		for key, value := range context {
			own[key] = value
		}
		text, err := execute(t, name, own)
		if err != nil {
			return nil, err
		}
		out[name] = text
	}
	return out, nil
}

func execute(t *template.Template, name string, data interface{}) (string, error) {
	var text bytes.Buffer
	if err := t.ExecuteTemplate(&text, name, data); err != nil {
		return "", err
	}
	return strings.ReplaceAll(text.String(), "<no value>", ""), nil
}

func noCluster(_, _, _, _ string) map[string]interface{} { return nil }

// inJSON caches YAML as JSON: every render reads the alerts, and may change the value that it gets.
var inJSON = map[string][]byte{}

// functions are sprig's and helm's. Those that render need the templates, which do not exist while these are parsed.
func functions(t *template.Template) template.FuncMap {
	all := sprig.TxtFuncMap()
	all["lookup"] = noCluster
	delete(all, "env")
	delete(all, "expandenv")
	all["toYaml"] = func(value interface{}) string {
		text, err := yaml.Marshal(value)
		if err != nil {
			return ""
		}
		return strings.TrimSuffix(string(text), "\n")
	}
	all["fromYaml"] = func(text string) map[string]interface{} {
		value := map[string]interface{}{}
		converted, known := inJSON[text]
		if !known {
			var err error
			if converted, err = yaml.YAMLToJSON([]byte(text)); err != nil {
				value["Error"] = err.Error()
				return value
			}
			inJSON[text] = converted
		}
		if err := json.Unmarshal(converted, &value); err != nil {
			value["Error"] = err.Error()
		}
		return value
	}
	all["fromJson"] = func(text string) map[string]interface{} {
		value := map[string]interface{}{}
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			value["Error"] = err.Error()
		}
		return value
	}
	all["required"] = func(message string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return value, errors.New(message)
		}
		return value, nil
	}
	all["include"] = func(name string, data interface{}) (string, error) { return execute(t, name, data) }
	all["tpl"] = func(text string, data interface{}) (string, error) {
		copied, err := t.Clone()
		if err != nil {
			return "", err
		}
		copied.Funcs(functions(copied))
		if _, err := copied.New("tpl").Parse(text); err != nil {
			return "", err
		}
		return execute(copied, "tpl", data)
	}
	return all
}
