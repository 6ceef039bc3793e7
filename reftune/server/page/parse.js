// From pasted text to examples: {prompt, answer}, or {messages} for a chat of more turns.

/** Read JSONL, a JSON list, or lines with a tab or "=>". Throws an Error that names the line. */
export function parseExamples(text) {
  const whole = text.trim();
  if (whole.startsWith("[")) return json(whole, "the list").map((row, n) => fromJson(row, n + 1));
  return whole.split("\n").flatMap((line, n) => {
    const trimmed = line.trim();
    if (!trimmed) return [];
    if (trimmed.startsWith("{")) return [fromJson(json(trimmed, `line ${n + 1}`), n + 1)];
    return [fromLine(trimmed, n + 1)];
  });
}

function json(text, where) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${where} is not JSON (${error.message})`);
  }
}

function fromLine(line, number) {
  const parts = line.includes("\t") ? line.split("\t") : line.split("=>");
  const [prompt, answer] = parts.map((part) => part.trim());
  if (parts.length === 2 && prompt && answer) return { prompt, answer };
  const told = line.length > 40 ? `${line.slice(0, 40)}…` : line;
  throw new Error(
    `line ${number}, "${told}": expected a question and an answer, with one tab or => between them`,
  );
}

function fromJson(row, number) {
  const isText = (value) => typeof value === "string" && value.trim() !== "";
  if (Array.isArray(row?.messages)) return fromMessages(row.messages);
  const prompt = row?.prompt ?? join(row?.instruction, row?.input);
  const answer = row?.completion ?? row?.answer ?? row?.output;
  if (isText(prompt) && isText(answer)) return { prompt, answer };
  throw new Error(
    `line ${number}: expected "messages", or "prompt" and "completion", with text in them`,
  );
}

function join(instruction, input) {
  return input ? `${instruction}\n${input}` : instruction;
}

function fromMessages(messages) {
  const [one, two] = messages;
  const isPair = messages.length === 2 && one?.role === "user" && two?.role === "assistant";
  return isPair && typeof one.content === "string" && typeof two.content === "string"
    ? { prompt: one.content, answer: two.content }
    : { messages };
}

/** Write examples as the file that a training takes. */
export function trainingFile(examples) {
  const lines = examples.map(({ prompt, answer, messages }) => JSON.stringify({
    messages: messages ?? [
      { role: "user", content: prompt },
      { role: "assistant", content: answer },
    ],
  }));
  return new Blob(lines.map((line) => `${line}\n`), { type: "application/jsonl" });
}
