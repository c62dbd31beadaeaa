/** Access to the document. Text from outside (names, errors) is only ever set as text. */

/**
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no element ${id}`);
  return element;
}

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Readonly<Record<string, string>>} attributes
 * @param {readonly (Node | string)[]} content
 * @returns {HTMLElementTagNameMap[T]}
 */
export function make(tag, attributes, ...content) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...content);
  return element;
}

/** Characters that nobody sees, or that reorder text: the expression of `src/base/printable.ts`. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;

/**
 * Two series must never look alike.
 * @param {string} text
 */
function visible(text) {
  return text.replace(UNSAFE, (character) =>
    character
      .split('')
      .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
      .join(''),
  );
}

/**
 * Leaves text that is already right, so that a screen reader does not repeat it and a selection stays.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  const shown = visible(text);
  if (element.textContent !== shown) element.textContent = shown;
}

/**
 * @param {Element} element
 * @param {string} name
 * @param {string} value
 */
export function setAttribute(element, name, value) {
  const shown = visible(value);
  if (element.getAttribute(name) !== shown) element.setAttribute(name, shown);
}

/**
 * Makes the number of children match the items, then fills every child.
 * @template Item
 * @param {Element} parent
 * @param {readonly Item[]} items
 * @param {() => Element} create
 * @param {(child: Element, item: Item, index: number) => void} fill
 */
export function fillChildren(parent, items, create, fill) {
  while (parent.children.length > items.length) parent.lastElementChild?.remove();
  while (parent.children.length < items.length) parent.append(create());
  for (const [index, item] of items.entries())
    fill(/** @type {Element} */ (parent.children[index]), item, index);
}
