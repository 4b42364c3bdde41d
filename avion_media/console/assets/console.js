// Keeps the page up to date, and is the client behind the upload box. Without it the page is simply not live.

const AGAIN_MS = 3000;
const connection = document.getElementById("connection");

function follow() {
  const events = new EventSource("/console/live");
  events.addEventListener("open", () => { connection.hidden = true; });
  events.addEventListener("error", () => {
    connection.textContent = "Not connected: trying again…";
    connection.hidden = false;
    if (events.readyState === EventSource.CLOSED) setTimeout(followAgain, AGAIN_MS);
  });
  events.addEventListener("section", (event) => {
    const { name, html } = JSON.parse(event.data);
    replace(document.querySelector(`[data-live="${name}"]`), html);
  });
}

// The browser itself tries again only when nobody answers at all. The session may be over: then the page leads to the login.
async function followAgain() {
  const page = await fetch("/console", { redirect: "manual" }).catch(() => null);
  if (page?.type === "opaqueredirect") location.reload();
  else follow();
}

// Puts new content in place and gives the focus back to whatever had it.
function replace(section, html) {
  const focused = section.contains(document.activeElement) ? document.activeElement : null;
  const key = focused?.dataset.key;
  section.innerHTML = html;
  if (!focused) return;
  const again = key
    ? [...section.querySelectorAll("[data-key]")].find((each) => each.dataset.key === key)
    : section.querySelector("[tabindex]");
  again?.focus({ preventScroll: true });
}

async function call(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: { "Content-Type": "application/json", "X-Form-Token": document.body.dataset.formToken },
    body: body && JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function put(url, headers, file, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => { progress.value = event.loaded / file.size; });
    request.addEventListener("load", () => {
      if (request.status === 200) resolve();
      else reject(new Error(`the store answered ${request.status}`));
    });
    request.addEventListener("error", () => reject(new Error("the store cannot be reached")));
    request.send(file);
  });
}

async function ended(mediaId, tell) {
  for (;;) {
    const status = await call("GET", `/console/uploads/${mediaId}`);
    tell(status.state.toLowerCase().replace("_", " "));
    if (["READY", "FAILED", "DELETED"].includes(status.state)) return status;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

async function upload(file, list) {
  const item = document.createElement("li");
  const name = document.createElement("span");
  const state = document.createElement("span");
  const progress = document.createElement("progress");
  name.textContent = file.name;
  state.className = "state busy";
  progress.max = 1;
  progress.value = 0;
  progress.setAttribute("aria-label", `Upload of ${file.name}`);
  item.append(name, " ", state, progress);
  list.prepend(item);
  const tell = (text) => { if (state.textContent !== text) state.textContent = text; };
  try {
    tell("requested");
    const granted = await call("POST", "/console/uploads", {
      filename: file.name, content_type: file.type, size: file.size,
    });
    tell("uploading");
    await put(granted.url, granted.headers, file, progress);
    await call("POST", `/console/uploads/${granted.media_id}/complete`);
    const status = await ended(granted.media_id, tell);
    if (status.state !== "READY") throw new Error(status.reason || status.state);
    state.className = "state good";
    const link = document.createElement("a");
    link.href = `/console/media/${granted.media_id}`;
    link.textContent = granted.media_id;
    link.className = "id";
    item.append(" ", link, document.createElement("br"));
    for (const [size, path] of Object.entries(status.thumbnails)) {
      const image = document.createElement("img");
      image.src = document.body.dataset.origin + path;
      image.alt = `${file.name}, ${size}`;
      item.append(image);
    }
  } catch (error) {
    state.className = "state bad";
    tell(`failed: ${error.message}`);
  }
  progress.remove();
}

function offerUploads() {
  const box = document.getElementById("upload");
  if (!box) return;
  const list = document.getElementById("uploads");
  const input = document.getElementById("files");
  const drop = box.querySelector(".drop");
  const take = (files) => { for (const file of files) upload(file, list); };
  box.hidden = false;
  document.getElementById("upload-without-script").hidden = true;
  input.addEventListener("change", () => { take(input.files); input.value = ""; });
  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer.files);
  });
}

offerUploads();
follow();
