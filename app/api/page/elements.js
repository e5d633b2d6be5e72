// Elements of the page: found by id, or made. What is shown is always text, never markup.

export const byId = (id) => document.getElementById(id);

/** A new element. `properties` are set as properties, those with a hyphen as attributes. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** A share of a whole, from 0 to 1, as people read it: "99.7%". */
export function percent(share) {
  if (share > 0.999) return ">99.9%";
  if (share > 0 && share < 0.001) return "<0.1%";
  return `${(share * 100).toFixed(1)}%`;
}

/** "1 picture", "12 pictures". */
export const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
