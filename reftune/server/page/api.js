// The server's public API, and the key for it.

const KEY = "reftune-key";
let asksForKey = async () => false;

export class ApiError extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export function key() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function keepKey(text) {
  if (text) sessionStorage.setItem(KEY, text);
  else sessionStorage.removeItem(KEY);
}

/** Name who asks the user for a key: a function whose promise is true if there is another one. */
export function onMissingKey(ask) {
  asksForKey = ask;
}

/**
 * Send a request; with a body that is no form, as JSON.
 *
 * Throws ApiError with what the server says, or that it cannot be reached.
 */
export async function send(method, path, body, signal) {
  for (;;) {
    const used = key();
    const response = await reach(method, path, body, signal, used);
    if (response.ok) return response;
    const error = await failure(response);
    if (error.status !== 401) throw error;
    // Another request may have brought a new key meanwhile.
    if (key() === used && !(await asksForKey(error.message))) throw error;
  }
}

export async function call(method, path, body) {
  return (await send(method, path, body)).json();
}

async function reach(method, path, body, signal, used) {
  const headers = used ? { Authorization: `Bearer ${used}` } : {};
  const isForm = body instanceof FormData;
  if (body && !isForm) headers["Content-Type"] = "application/json";
  const content = body && !isForm ? JSON.stringify(body) : body;
  try {
    return await fetch(path, { method, headers, body: content, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached.", 0, "unreachable");
  }
}

async function failure(response) {
  const said = await response.json().catch(() => null);
  const error = said?.error ?? {};
  const message = error.message ?? `The server answered ${response.status}.`;
  return new ApiError(message, response.status, error.code);
}

/** Stream the answer to a chat: calls `grow` with each piece of text; returns why it ended. */
export async function streamChat(request, grow, signal) {
  const path = "/v1/chat/completions";
  const response = await send("POST", path, { ...request, stream: true }, signal);
  let reason = null;
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return reason;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error.message, 500, chunk.error.code);
    const choice = chunk.choices[0];
    if (choice?.delta.content) grow(choice.delta.content);
    reason = choice?.finish_reason ?? reason;
  }
  throw new ApiError("The answer broke off.", 0, "broken");
}

/** Read server-sent events; the server writes each as one line that begins with "data: ". */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let read;
    try {
      read = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError("The answer broke off.", 0, "broken");
    }
    if (read.done) return;
    const parts = (rest + read.value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) if (part.startsWith("data: ")) yield part.slice(6);
  }
}
