// Puts the page together.

import { keepKey, key, onMissingKey } from "/page/api.js";
import { startChat } from "/page/chat.js";
import { answered, byId, goTo, say } from "/page/elements.js";
import { choose, loadModels } from "/page/models.js";
import { findTraining, startTeaching } from "/page/teach.js";

let asking = null; // one dialog, however many requests wait for a key

function askForKey(reason) {
  byId("key-button").hidden = false;
  byId("key-reason").textContent = `${reason}. It is kept until this tab is closed.`;
  byId("key").value = key();
  asking ??= answered(byId("key-dialog")).then((given) => {
    asking = null;
    if (given) keepKey(byId("key").value.trim());
    return given;
  });
  return asking;
}

async function load() {
  say(byId("trouble"), "");
  try {
    await loadModels();
    const wanted = new URLSearchParams(location.hash.slice(1)).get("adapter");
    if (wanted) choose(wanted);
    await findTraining();
  } catch (error) {
    say(byId("trouble"), error.message);
  }
}

for (const button of document.querySelectorAll("[data-goes]")) {
  button.addEventListener("click", () => goTo(button.dataset.goes));
}
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
byId("key-button").hidden = !key();
byId("key-button").addEventListener("click", async () => {
  if (await askForKey("The key that this page sends")) await load();
});
onMissingKey(askForKey);
startChat();
startTeaching();
load();
