// Making and finding elements. Text goes in as text, never as markup.

export const byId = (id) => document.getElementById(id);

/** Make an element with attributes and children; a property "text" is its text. */
export function make(tag, { text, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  element.append(...children);
  return element;
}

/** Show a message in an element that is hidden while there is none. */
export function say(element, message) {
  element.textContent = message;
  element.hidden = !message;
}

/** Show one part of the page, where there is no room for all; others are shown beside it anyway. */
export function goTo(view) {
  document.body.dataset.view = view;
  for (const button of document.querySelectorAll("nav [data-goes]")) {
    button.setAttribute("aria-current", String(button.dataset.goes === view));
  }
}

/** Open a dialog; the promise is true if it was answered, false if it was closed. */
export function answered(dialog) {
  return new Promise((resolve) => {
    const form = dialog.querySelector("form");
    const submit = (event) => {
      event.preventDefault();
      dialog.close("yes");
    };
    form.addEventListener("submit", submit);
    dialog.returnValue = "";
    dialog.addEventListener(
      "close",
      () => {
        form.removeEventListener("submit", submit);
        resolve(dialog.returnValue === "yes");
      },
      { once: true },
    );
    dialog.showModal();
  });
}

/** Shorten the name of a trained adapter, ft:BASE:SUFFIX:ID. */
export function shortName(model) {
  const parts = model.split(":");
  return parts[0] === "ft" && parts.length === 4 ? `${parts[2]} (${parts[3]})` : model;
}
