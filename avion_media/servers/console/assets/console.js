// What makes the pages quicker: live regions, questions as dialogs, selection, keys, and the upload box of development.
// Every page works without it.

const AGAIN_MS = 3000;
const STALE_MS = 5_000;
const SETTLING_MS = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000];
document.documentElement.classList.add("js");
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// ---- Live regions. A region is patched in place: what has the focus, is open or is checked stays as it is.

const body = document.body;
const toggle = document.querySelector(".live");
const waiting = new Map();
let isOn = true;
let events = null;

const isHeld = () => !isOn || document.querySelector("dialog[open], .select tbody input:checked, details.menu[open]");

function applyWaiting() {
  if (isHeld()) return;
  const focused = document.activeElement;
  const top = focused.getBoundingClientRect().top;
  for (const [name, html] of waiting) {
    const region = document.querySelector(`[data-live="${name}"]`);
    if (region) patch(region, html);
  }
  waiting.clear();
  // A card above that gets longer or shorter must not move the part that is used. The browser sees to the rest.
  const moved = focused.getBoundingClientRect().top - top;
  if (focused !== body && focused.closest("main") && moved) scrollBy({ top: moved, behavior: "instant" });
}

function patch(region, html) {
  const parsed = document.createElement("template");
  parsed.innerHTML = html;
  morphChildren(region, parsed.content);
}

const keyOf = (node) => (node.nodeType === 1 ? node.dataset.key || node.id : "");
const isSame = (one, other) =>
  one.nodeType === other.nodeType && one.nodeName === other.nodeName && keyOf(one) === keyOf(other);

function morphChildren(from, to) {
  let next = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    let found = next;
    while (found && !isSame(found, wanted)) found = keyOf(wanted) || !next ? found.nextSibling : null;
    if (!found) {
      from.insertBefore(wanted, next);
      continue;
    }
    while (next !== found) {
      const gone = next;
      next = next.nextSibling;
      gone.remove();
    }
    next = found.nextSibling;
    if (found.nodeType !== 1) {
      if (found.nodeValue !== wanted.nodeValue) found.nodeValue = wanted.nodeValue;
    } else if (!found.isEqualNode(wanted)) {
      morphAttributes(found, wanted);
      morphChildren(found, wanted);
    }
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    if (!gone.contains(document.activeElement)) gone.remove();
  }
}

function morphAttributes(from, to) {
  const keeps = (name) => name === "open" && from.nodeName === "DETAILS";
  for (const { name } of [...from.attributes]) if (!to.hasAttribute(name) && !keeps(name)) from.removeAttribute(name);
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value && !keeps(name)) from.setAttribute(name, value);
  }
}

// A page about something in progress is read again until that has ended, or after a minute the reader must do it.
async function settle() {
  for (const pauseMs of SETTLING_MS) {
    if (!document.querySelector("[data-unsettled]")) return;
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    const answer = isHeld() ? null : await fetch(location.href).catch(() => null);
    if (!answer?.ok) continue;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    morphChildren(document.querySelector("main"), page.querySelector("main"));
  }
}
settle();

let lostAt = 0;
function show(isLost) {
  if (isLost && !lostAt) lostAt = Date.now();
  if (!isLost) lostAt = 0;
  toggle.classList.toggle("lost", isLost);
  const isStale = lostAt > 0 && Date.now() - lostAt >= STALE_MS;
  const data = isStale ? `, data of ${new Date(lostAt).toISOString().slice(11, 19)} UTC` : "";
  toggle.textContent = isLost ? `Reconnecting${data}` : isOn ? "Live" : "Paused";
  for (const region of all("main [data-live]")) region.classList.toggle("stale", isStale);
}

function follow() {
  const query = body.dataset.liveQuery;
  events = new EventSource(`/console/live?page=${body.dataset.livePage}${query && `&${query}`}`);
  events.addEventListener("open", () => show(false));
  events.addEventListener("error", () => {
    show(true);
    if (events.readyState === EventSource.CLOSED) setTimeout(followAgain, AGAIN_MS);
  });
  events.addEventListener("region", (event) => {
    const { name, html } = JSON.parse(event.data);
    waiting.set(name, html);
    applyWaiting();
  });
}

// The browser tries again by itself only when nobody responds at all. The session may be over: then to the login.
async function followAgain() {
  const page = await fetch(location.href, { redirect: "manual" }).catch(() => null);
  if (page?.type === "opaqueredirect") location.reload();
  else follow();
}

toggle?.addEventListener("click", () => {
  isOn = !isOn;
  toggle.setAttribute("aria-pressed", isOn);
  show(lostAt > 0);
  applyWaiting();
});

// ---- Times: relative ones move on between two updates.

function duration(seconds) {
  const whole = Math.floor(seconds);
  if (whole < 60) return `${Math.floor(whole / 5) * 5} s`;
  for (const [unitS, unit, partS, part] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"]]) {
    if (whole < unitS) continue;
    const rest = Math.floor((whole % unitS) / partS);
    return `${Math.floor(whole / unitS)} ${unit}${rest ? ` ${rest} ${part}` : ""}`;
  }
  return `${Math.floor(whole / 60)} min`;
}

setInterval(() => {
  for (const time of all("time:not([data-clock])")) {
    const passed = (Date.now() - Date.parse(time.dateTime)) / 1000;
    const text = Math.abs(passed) < 10 ? "just now" : passed > 0 ? `${duration(passed)} ago` : `in ${duration(-passed)}`;
    if (time.textContent !== text) time.textContent = text;
  }
}, 5000);
if (toggle) setInterval(() => show(lostAt > 0), 1000);

// ---- Charts: the value under the pointer. The markup has the values.

const under = document.createElement("p");
under.className = "under";
under.hidden = true;
under.setAttribute("aria-hidden", "true"); // the label of a chart has its last value
body.append(under);

function showUnder(chart, event) {
  const { start, step, unit, names, values } = chart.dataset;
  const series = values.split("|").map((each) => each.split(","));
  const count = series[0].length;
  const box = chart.getBoundingClientRect();
  const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  const isBars = chart.querySelector(".bars");
  const at = Math.min(count - 1, isBars ? Math.floor(share * count) : Math.round(share * (count - 1)));
  const written = (value) => {
    if (!value) return "unknown";
    return unit === "s" && value >= 10 ? duration(Number(value)) : `${Number(value).toLocaleString("en")} ${unit}`.trim();
  };
  const named = names.split("|");
  const moment = new Date(1000 * (Number(start) + at * Number(step))).toISOString();
  const when = count * step > 86400 ? moment.slice(5, 16).replace("T", " ") : moment.slice(11, 16);
  under.textContent = `${when} UTC: ${series.map((each, index) => `${written(each[at])} ${named[index] ?? ""}`.trim()).join(", ")}`;
  under.hidden = false;
  const left = box.left + (isBars ? (at + 0.5) / count : at / Math.max(1, count - 1)) * box.width - under.offsetWidth / 2;
  under.style.left = `${Math.min(innerWidth - under.offsetWidth - 4, Math.max(4, left))}px`;
  under.style.top = `${Math.max(4, box.top - under.offsetHeight - 6)}px`;
}

for (const type of ["pointermove", "pointerdown"]) {
  document.addEventListener(type, (event) => {
    const chart = event.target.closest?.("svg[data-values]") ?? event.target.closest?.(".plot")?.querySelector("svg");
    if (chart) showUnder(chart, event);
    else under.hidden = true;
  });
}
document.addEventListener("scroll", () => { under.hidden = true; }, { passive: true });

// ---- Questions: the page that asks, as a dialog over the page that it is about.

const dialog = document.getElementById("question");
let opener = null;

async function ask(url) {
  const page = await fetch(url).catch(() => null);
  const parsed = page?.ok && new DOMParser().parseFromString(await page.text(), "text/html");
  const form = parsed && parsed.querySelector("form.question");
  if (!form) {
    location.assign(url);
    return;
  }
  showQuestion(form);
}

function showQuestion(form) {
  opener = document.activeElement;
  dialog.replaceChildren(document.adoptNode(form));
  dialog.showModal();
  (dialog.querySelector("input[name=note]") ?? dialog.querySelector("[data-close]")).focus();
}

document.addEventListener("click", (event) => {
  const asks = event.target.closest("a[data-ask]");
  if (asks && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    ask(asks.href);
  }
  if (event.target.closest("dialog [data-close]")) {
    event.preventDefault();
    dialog.close();
  }
});
document.addEventListener("submit", (event) => {
  if (!event.submitter?.matches("button[data-ask]")) return;
  event.preventDefault();
  ask(`${event.target.getAttribute("action")}?${new URLSearchParams(new FormData(event.target, event.submitter))}`);
});
// The note has the focus, and Enter in it confirms, but not the Enter that is still held down from opening the dialog.
dialog?.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.repeat) event.preventDefault();
});
dialog?.addEventListener("close", () => {
  dialog.replaceChildren();
  opener?.focus({ preventScroll: true });
  applyWaiting();
});

// ---- Actions: the page stays where it is, and shows what was done above everything else.

const TOAST_MS = 8000;
const toasts = document.getElementById("toasts");

function toast(element) {
  toasts.replaceChildren(element);
  const remove = () => { if (element.matches(":hover, :focus-within")) setTimeout(remove, TOAST_MS); else element.remove(); };
  setTimeout(remove, TOAST_MS);
}

function say(text, tone = "bad") {
  const element = document.createElement("p");
  element.className = `flash ${tone}`;
  element.textContent = text;
  toast(element);
}

function placeOf(url) {
  const place = new URL(url, location);
  place.searchParams.delete("done");
  return `${place.pathname}?${place.searchParams}`;
}

async function act(form, submitter) {
  const sent = new URLSearchParams(new FormData(form, submitter));
  if (dialog.open) dialog.close();
  const used = document.activeElement;
  document.querySelector("main > .flash")?.remove(); // that of an action before
  say("In progress…", "info");
  const response = await fetch("/console/actions", { method: "POST", body: sent }).catch(() => null);
  if (!response) {
    say("Not done: the console does not respond.");
    return;
  }
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const question = page.querySelector("form.question");
  const main = page.querySelector("body.frame > main");
  if (question) {
    toasts.replaceChildren();
    showQuestion(question);
  } else if (!main) {
    say(all("h1, .form > p:not(.status-code)", page).map((each) => each.textContent).join(". ") || "Not done.");
  } else if (placeOf(response.url) !== placeOf(location)) {
    location.assign(response.url);
  } else {
    const flash = main.querySelector(".flash");
    flash?.remove();
    waiting.clear();
    for (const box of all(".select tbody input:checked")) box.checked = false;
    used.blur(); // what has the focus is not removed
    morphChildren(document.querySelector("main"), main);
    (used.isConnected && used !== body ? used : document.querySelector("main")).focus({ preventScroll: true });
    body.dataset.liveQuery = page.body.dataset.liveQuery;
    events.close();
    follow();
    toasts.replaceChildren();
    if (flash) toast(flash);
  }
}

document.addEventListener("submit", (event) => {
  if (event.defaultPrevented || event.target.getAttribute("action") !== "/console/actions" || !toasts) return;
  event.preventDefault();
  act(event.target, event.submitter);
});

// ---- Selection: all on this page with its state in between, ranges with Shift.

let lastBox = null;

function sum(form) {
  const head = form.querySelector("thead input");
  if (!head) return; // a viewer selects nothing
  const boxes = all("tbody input[type=checkbox]", form);
  const chosen = boxes.filter((box) => box.checked).length;
  head.checked = chosen > 0 && chosen === boxes.length;
  head.indeterminate = chosen > 0 && chosen < boxes.length;
  applyWaiting();
}

document.addEventListener("click", (event) => {
  const form = event.target.closest("form.select");
  const box = event.target.closest(".select input[type=checkbox]");
  if (!form) return;
  const boxes = all("tbody input[type=checkbox]", form);
  if (event.target.closest("[data-clear]")) {
    for (const each of boxes) each.checked = false;
    boxes[0]?.focus();
  } else if (box?.closest("thead")) {
    for (const each of boxes) each.checked = box.checked;
  } else if (box) {
    const [from, to] = [boxes.indexOf(lastBox), boxes.indexOf(box)].sort((one, other) => one - other);
    if (event.shiftKey && from >= 0) for (const each of boxes.slice(from, to + 1)) each.checked = box.checked;
    lastBox = box;
  } else {
    return;
  }
  sum(form);
});
for (const form of all("form.select")) sum(form);

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.closest("input:not([type=checkbox]), select, textarea, dialog")) return;
  event.preventDefault();
  (document.querySelector("main input[type=search]") ?? document.getElementById("find"))?.focus();
});

// ---- A copied id, and a menu that closes when something else is used.

document.addEventListener("click", async ({ target }) => {
  for (const menu of all("details.menu[open]")) if (!menu.contains(target)) menu.open = false;
  const copies = target.closest("[data-copy]");
  if (!copies) return;
  const isCopied = await navigator.clipboard?.writeText(copies.dataset.copy).then(() => true, () => false);
  say(isCopied ? "Copied." : "Not copied: the browser does not allow it here.", isCopied ? "good" : "bad");
});
document.addEventListener("keydown", ({ key }) => {
  const menu = key === "Escape" && document.querySelector("details.menu[open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

// ---- A picture that cannot be loaded says so.

document.addEventListener("error", ({ target }) => {
  if (target.matches(".look img")) target.alt = "The picture cannot be shown now.";
  else if (target.matches(".tile img, .subject img")) target.remove();
}, true);

// ---- A picture of evidence fills the window, until the next press or Escape.

function enlarge(look, isLarge = look && !look.matches(".large")) {
  for (const each of all(".look.large")) each.classList.remove("large");
  if (isLarge) look.classList.add("large");
}

document.addEventListener("click", (event) => {
  const link = event.target.closest(".look a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  enlarge(link.parentElement);
  bar()?.focus({ preventScroll: true });
});
document.addEventListener("keydown", ({ key }) => { if (key === "Escape") enlarge(); });

// ---- Review: one key, one decision. Keys act only while the bar has the focus; Escape and a click beside it lead back.
// The next item is in the page already. It is shown at once, and the response to the decision replaces it.

const PEEK_MS = 400;
const GUARD_MS = 400; // after a change nothing is decided, so that a key that was meant for the item before decides only once
const UNDO_S = 8;
const judged = () => document.querySelector("main > .judge");
const bar = () => judged()?.querySelector(".dock");
const looks = () => all("details.look", judged() ?? document.createElement("div"));
let peekedAt = 0;
let readyAt = 0;
let ticking = 0;
let press = 0;
let sent = Promise.resolve();
let decisions = 0;

function toBar() {
  for (const each of all(".asks[open]")) each.open = false;
  bar()?.focus({ preventScroll: true });
}

function open(asks) {
  asks.open = true;
  if (!asks.querySelector(".ask").contains(document.activeElement)) {
    (asks.querySelector("textarea") ?? asks.querySelector(".ask")).focus({ preventScroll: true });
  }
}

function uncover(isShown) {
  for (const each of looks()) each.open = isShown;
  if (!isShown) enlarge();
}

function cover() {
  if (peekedAt && performance.now() - peekedAt > PEEK_MS) uncover(false);
  peekedAt = 0;
}

function countDown() {
  clearInterval(ticking);
  const left = bar()?.querySelector("[data-left]");
  if (!left) return;
  ticking = setInterval(() => {
    left.textContent = Math.max(0, Number(left.textContent) - 1);
    if (left.textContent !== "0") return;
    left.closest("form").hidden = true;
    clearInterval(ticking);
  }, 1000);
}

// What is open or written about an item stays, if it is the same item as before. The summary at the end is about none, and
// is replaced: the button in it that has the focus may have no meaning any more.
function showItem(nodes) {
  const shown = document.querySelector("main");
  const main = shown.cloneNode();
  main.append(...nodes);
  main.querySelector("[autofocus]")?.removeAttribute("autofocus"); // it has the focus already
  const next = main.querySelector("template");
  const { key } = main.querySelector(".judge").dataset;
  if (key && key === judged()?.dataset.key) {
    next?.remove(); // the content of a template is not among its children
    document.getElementById("next")?.remove();
    morphChildren(shown, main);
    if (next) shown.append(next);
  } else {
    shown.replaceChildren(...main.childNodes);
    readyAt = performance.now() + GUARD_MS;
    toBar();
  }
  countDown();
}

function showNext(said) {
  const item = judged().dataset.key;
  const next = document.getElementById("next");
  if (next) showItem([next.content.cloneNode(true)]);
  bar().querySelector("[role=status]").textContent = `${said} ${item}.`;
  bar().querySelector(".result").className = `result ${{ R: "good", B: "bad" }[said[0]] ?? ""}`;
  bar().querySelector("[data-final]")?.remove();
  // It can be taken back before the server has answered: one request follows the other.
  const undo = bar().querySelector(".result form");
  undo.hidden = said === "Skipped";
  undo.querySelector("[data-left]").textContent = UNDO_S;
  countDown();
}

async function decide(form, submitter) {
  const body = new URLSearchParams(new FormData(form, submitter));
  const mine = ++decisions;
  if (submitter.dataset.said) showNext(submitter.dataset.said);
  sent = sent.then(() => fetch("/console/review", { method: "POST", body })).catch(() => null);
  const response = await sent;
  if (mine !== decisions) return; // a later decision shows what comes next
  if (!response?.ok || response.url.endsWith("/console/moderation")) {
    location.assign(response?.ok ? response.url : "/console/review");
    return;
  }
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  if (mine !== decisions) return;
  document.title = page.title;
  showItem([...page.querySelector("main").childNodes].map((node) => document.adoptNode(node)));
}

if (judged()) {
  document.addEventListener("keydown", (event) => {
    if (!bar() || event.ctrlKey || event.metaKey || event.altKey) return;
    const isNote = event.target.matches("textarea");
    if (event.key === "Escape" || (event.key === "Enter" && !event.shiftKey && isNote)) {
      event.preventDefault();
      toBar();
      return;
    }
    if (isNote || !bar().contains(event.target) || event.repeat) return;
    const key = event.key.toUpperCase();
    if (performance.now() < readyAt && !["U", "V", "Z"].includes(key)) return;
    if (key === "V") {
      const isShown = looks().some((look) => !look.open);
      uncover(isShown);
      peekedAt = isShown ? performance.now() : 0;
      return;
    }
    if (key === "Z") {
      uncover(true);
      enlarge(looks()[0]);
      return;
    }
    const within = /[0-9]/.test(key) ? "[open] " : "";
    const found = /^[A-Z1-9]$/.test(key) && bar().querySelector(`${within}[aria-keyshortcuts="${key}"]`);
    if (!found?.checkVisibility()) return;
    event.preventDefault();
    if (found.matches("summary")) open(found.parentElement); // at once: the next key belongs to the note already
    else found.click();
  });
  document.addEventListener("keyup", (event) => { if (event.key.toUpperCase() === "V") cover(); });
  // A question takes the focus when it opens. A press on a cover shows the pictures, a long one only while it lasts.
  document.addEventListener("toggle", ({ target }) => {
    if (target.matches(".asks[open]")) {
      open(target);
    } else if (target.matches(".look")) {
      uncover(target.open);
    }
  }, true);
  document.addEventListener("pointerdown", (event) => {
    if (!event.target.closest("details.look:not([open])")) return;
    press = setTimeout(() => {
      uncover(true);
      peekedAt = performance.now() - PEEK_MS;
    }, 300);
  });
  for (const type of ["pointerup", "pointercancel"]) {
    document.addEventListener(type, () => {
      clearTimeout(press);
      if (peekedAt) setTimeout(cover);
    });
  }
  document.addEventListener("click", (event) => {
    const isUsed = event.target.closest("a, button, input, textarea, .ask, .asks, summary");
    if (event.target.closest("[data-keep]") || (event.detail && !isUsed)) toBar();
  });
  document.addEventListener("submit", (event) => {
    if (!event.target.closest(".judge") || !bar()) return;
    event.preventDefault();
    decide(event.target, event.submitter);
  });
  countDown();
}

// ---- The upload box: what a client does, in the browser.

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
      else reject(new Error(`the store responded with ${request.status}`));
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
  state.className = "badge info";
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
    await put(granted.upload_url, granted.upload_headers, file, progress);
    await call("POST", `/console/uploads/${granted.media_id}/complete`);
    const status = await ended(granted.media_id, tell);
    if (status.state !== "READY") throw new Error(status.reason || status.state);
    state.className = "badge good";
    const link = document.createElement("a");
    link.href = `/console/media/${granted.media_id}`;
    link.textContent = granted.media_id;
    link.className = "mono small";
    item.append(" ", link);
    for (const [size, path] of Object.entries(status.thumbnails ?? {})) {
      const image = document.createElement("img");
      image.src = document.body.dataset.origin + path;
      image.alt = `${file.name}, ${size}`;
      item.append(image);
    }
  } catch (error) {
    state.className = "badge bad";
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
if (body.dataset.livePage) follow();
