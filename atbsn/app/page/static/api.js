// Talks to the server that this page came from, and to no other.

let base = null;

export class Refused extends Error {
  constructor(message, over) {
    super(message);
    this.over = over;
  }
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw new Refused("The server does not answer. Was it ended in the terminal?", false);
  }
  if (!response.ok) {
    const answer = await response.json().catch(() => ({}));
    throw new Refused(answer.error || `The server answers ${response.status}.`, answer.over);
  }
  return response;
}

const post = (path, body) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export async function start() {
  const answer = await (await post("/api/sessions", {})).json();
  base = `/api/sessions/${answer.token}`;
  return answer;
}

// Goes on as the visitor that this page was before it was loaded anew; null if he is not known any more.
export async function comeBack(token) {
  base = `/api/sessions/${token}`;
  try {
    return { token, ...(await describe()) };
  } catch (error) {
    if (error.over) return null;
    throw error;
  }
}

export const describe = async () => (await ask(base)).json();
export const leave = () => base && navigator.sendBeacon(`${base}/leave`);
export const upload = async (file) =>
  (await ask(`${base}/pictures?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file })).json();
export const remove = async (picture) => (await ask(`${base}/pictures/${picture}`, { method: "DELETE" })).json();
export const mask = async (picture, values) =>
  (await ask(`${base}/pictures/${picture}/mask`, { method: "PUT", body: values })).json();
export const compute = async (picture, kind, body) =>
  (await (await post(`${base}/pictures/${picture}/${kind}`, body)).json()).id;
export const maskAddress = (picture) => `${base}/pictures/${picture}/mask`;
export const results = async (body) => (await (await post(`${base}/results`, body)).json()).id;
export const adapt = async (minutes) => (await (await post(`${base}/adapt`, { minutes })).json()).id;
export const stop = (job) => post(`${base}/jobs/${job}/stop`, {});
export const address = (file) => `${base}/files/${file}`;

const content = async (file) => (await ask(address(file))).arrayBuffer();
export const samples = async (file) => new Int16Array(await content(file));
export const bytes = async (file) => new Uint8Array(await content(file));

export async function region(picture, [left, top, width, height]) {
  const query = `left=${left}&top=${top}&width=${width}&height=${height}`;
  return new Int16Array(await (await ask(`${base}/pictures/${picture}/region?${query}`)).arrayBuffer());
}

// Follows a computation to its end; gives its result, or null if it was stopped.
export async function follow(job, onState) {
  for (let pause = 60; ; pause = Math.min(500, pause * 1.3)) {
    const state = await (await ask(`${base}/jobs/${job}`)).json();
    if (state.state === "done") return state.result;
    if (state.state === "stopped") return null;
    if (state.state === "failed") throw new Refused(state.message, false);
    onState(state);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

export function inWords(state, what) {
  if (state.state === "waiting") {
    return state.position > 0 ? `${what}: waiting, ${state.position} before it` : `${what}: about to start`;
  }
  return `${what}: ${state.message || ""} ${Math.floor(100 * state.share)} %`;
}
