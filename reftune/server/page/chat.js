// The chat: each message is answered by the adapter and, beside it, by the base model.

import { streamChat } from "/page/api.js";
import { byId, make, shortName } from "/page/elements.js";
import { baseName, chosenAdapter, loadModels } from "/page/models.js";

const log = byId("log");
const welcome = byId("welcome");
const prompt = byId("prompt");
const sendButton = byId("send");

// What was asked, and the answers that are whole, by model. A model remembers what it answered
// itself, so that what another one said does not change its answers.
let exchanges = [];
let running = null; // an AbortController while answers come

export function startChat() {
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    if (running) running.abort();
    else ask();
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!running) ask();
  });
  prompt.addEventListener("input", grow);
  byId("clear").addEventListener("click", clear);
  byId("adapter").addEventListener("change", showBeside);
  showBeside();
}

/** The base model beside itself would say the same twice. */
function showBeside() {
  byId("beside").disabled = !chosenAdapter();
}

function grow() {
  prompt.style.height = "auto";
  prompt.style.height = `${Math.min(prompt.scrollHeight + 2, 160)}px`;
}

/** Tell something that is no answer, in the conversation and to a screen reader. */
export function tell(text) {
  log.append(make("p", { class: "event faint", text }));
  byId("said").textContent = text;
  follow();
}

function clear() {
  running?.abort();
  exchanges = [];
  log.replaceChildren(welcome);
  byId("said").textContent = "";
  prompt.focus();
}

async function ask() {
  const text = prompt.value.trim();
  if (!text) return;
  prompt.value = "";
  grow();
  const exchange = { prompt: text, answers: {} };
  exchanges.push(exchange);
  const cards = make("div", { class: "answers" });
  welcome.remove();
  log.append(make("p", { class: "asked", text }), cards);
  follow(true);
  running = new AbortController();
  sendButton.textContent = "Stop";
  try {
    if (!baseName()) await loadModels(); // the server, or a key for it, was not there before
    const told = models().map((model) => answer(model, exchange, cards));
    byId("said").textContent = (await Promise.all(told)).join("\n");
  } catch (error) {
    cards.append(make("p", { class: "trouble", text: error.message }));
    byId("said").textContent = error.message;
  } finally {
    running = null;
    sendButton.textContent = "Send";
  }
}

function models() {
  const adapter = chosenAdapter();
  if (!adapter) return [baseName()];
  return byId("beside").checked ? [baseName(), adapter] : [adapter];
}

/** Stream one model's answer into a card of its own; return what a screen reader is to say. */
async function answer(model, exchange, cards) {
  const name = model === baseName() ? `${model}, the base model` : shortName(model);
  const body = make("p", { class: "text waiting" });
  const note = make("p", { class: "faint" });
  const kind = model === baseName() ? "base" : "adapted";
  cards.append(make("article", { class: kind }, make("h3", { text: name }), body, note));
  follow();
  try {
    const reason = await streamChat(request(model, exchange), (piece) => {
      body.append(piece);
      follow();
    }, running.signal);
    exchange.answers[model] = body.textContent;
    if (!body.textContent.trim()) note.textContent = "(an empty answer)";
    if (reason === "length") note.textContent = "(cut off at the longest answer)";
  } catch (error) {
    const stopped = error.name === "AbortError";
    note.textContent = stopped ? "(stopped)" : explained(error);
    note.classList.toggle("trouble", !stopped);
  } finally {
    body.classList.remove("waiting");
    follow();
  }
  return `${name}: ${body.textContent} ${note.textContent}`;
}

function explained(error) {
  if (error.code !== "context_length_exceeded") return error.message;
  return `${error.message} "New chat" makes room.`;
}

function request(model, exchange) {
  const messages = [];
  const system = byId("system").value.trim();
  if (system) messages.push({ role: "system", content: system });
  for (const { prompt: asked, answers } of byId("memory").checked ? exchanges : []) {
    if (!answers[model]?.trim()) continue;
    messages.push({ role: "user", content: asked }, { role: "assistant", content: answers[model] });
  }
  messages.push({ role: "user", content: exchange.prompt });
  return {
    model,
    messages,
    temperature: number("temperature", 0),
    max_tokens: number("max-tokens", 128),
  };
}

function number(id, otherwise) {
  const value = byId(id).valueAsNumber;
  return Number.isNaN(value) ? otherwise : value;
}

let atEnd = true;
log.addEventListener("scroll", () => {
  atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
});

/** Keep the end in sight, unless the user has scrolled away from it. */
function follow(always = false) {
  atEnd ||= always;
  if (atEnd) log.scrollTop = log.scrollHeight;
}
