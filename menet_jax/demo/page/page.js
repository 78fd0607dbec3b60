"use strict";

const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

let photograph = null; // its name, and its file, which is sent with every question
const asking = {}; // section → what ends the question that it asks

function complain(text) {
  find("#error").textContent = text;
  find("#error").hidden = !text;
}

// Ask the server, and use every line of the answer as it comes; a new question of a section takes the old one's place.
async function ask(section, query, use) {
  asking[section.id]?.abort();
  const ending = (asking[section.id] = new AbortController());
  const state = find(".state", section);
  state.textContent = "computing …";
  try {
    const response = await fetch(`${section.id}?${new URLSearchParams({ name: photograph.name, ...query })}`, {
      method: "POST",
      body: photograph.file,
      headers: { "Content-Type": "application/octet-stream" },
      signal: ending.signal,
    });
    if (!response.ok) throw new Error(response.statusText);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let pieces = [];
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const [first, ...more] = value.split("\n");
      pieces.push(first);
      for (const next of more) {
        const line = JSON.parse(pieces.join(""));
        if (line.error) complain(line.error);
        else if (line.picture) show(section, line);
        else use(line);
        pieces = [next];
      }
    }
  } catch (error) {
    if (ending.signal.aborted) return;
    complain("The demo does not answer: it has ended, or its terminal says what is wrong.");
  }
  if (asking[section.id] === ending) state.textContent = "";
}

function show(section, { picture, png }) {
  const figure = find(`[data-picture=${picture}]`, section);
  const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
  const url = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
  forget(figure);
  find("img", figure).src = url;
  for (const link of all("a", figure)) link.href = url;
  const made = section.id === "distorted" ? `_noise${sigma()}${quality() ? `_jpeg${quality()}` : ""}` : "";
  find(".save", figure).download = `${photograph.name.replace(/\.[^.]*$/, "")}${made}_${picture}.png`;
}

function forget(figure) {
  const image = find("img", figure);
  if (image.src) URL.revokeObjectURL(image.src);
  image.removeAttribute("src");
  for (const link of all("a", figure)) link.removeAttribute("href");
}

const kind = () => find("[name=kind]:checked").value;
const sigma = () => Number(find("#sigma").value);
const quality = () => (Number(find("#quality").value) > 100 ? null : Number(find("#quality").value));

function choose(name, file) {
  const most = Number(document.body.dataset.megabytes);
  Object.values(asking).forEach((ending) => ending.abort());
  all("figure").forEach(forget);
  all("output, .f, #brightest, .state", find("#jacobian")).forEach((each) => (each.textContent = ""));
  find("#jacobian .result").hidden = true;
  find("progress").hidden = true;
  find("#measure").disabled = false;
  complain("");
  photograph = { name, file };
  find("main").hidden = file.size > most * 1e6;
  if (file.size > most * 1e6) {
    complain(`${name}: ${(file.size / 1e6).toFixed(1)} MB; the demo takes files of up to ${most} MB`);
    return;
  }
  find("#name").textContent = name;
  see();
}

async function see() {
  const seeing = ask(find("#maps"), { kind: kind() }, () => {});
  distort();
  await seeing;
  find("main").hidden = !find("#error").hidden && !find("#maps img").src; // it is no photograph
}

function distort() {
  const section = find("#distorted");
  find("#sigma-value").textContent = sigma() || "none";
  find("#quality-value").textContent = quality() || "none";
  const strengths = { sigma: sigma(), ...(quality() && { quality: quality() }) };
  find(".pictures", section).hidden = !sigma() && !quality();
  all(".f").forEach((each) => (each.textContent = ""));
  if (!sigma() && !quality()) {
    asking.distorted?.abort();
    find(".state", section).textContent = "";
    return;
  }
  ask(section, { kind: kind(), ...strengths }, ({ f }) => {
    for (const [map, value] of Object.entries(f ?? {}))
      find(`#f-${map}`).textContent = value === null ? "F: the map above cuts out nothing" : `F ${value.toFixed(3)}`;
  });
}

async function measure() {
  const section = find("#jacobian");
  const bar = find("progress", section);
  find("#measure").disabled = true;
  find(".result", section).hidden = bar.hidden = false;
  const measured = photograph;
  await ask(section, {}, (line) => {
    if (line.most) {
      bar.max = line.most;
      bar.value = line.done;
      find(".state", section).textContent = `${line.stage}: ${line.done ? `${line.done} of at most ${line.most} products` : "compiling …"}`;
    } else if (line.brightest) {
      find("#brightest").textContent = `brightest ${line.brightest.toPrecision(2)} for each gray level`;
    } else if (line.norm) {
      const error = line.standard_error === undefined ? "" : ` ± ${line.standard_error.toPrecision(1)}`;
      const doubt = line.converged ? "" : " (not converged)";
      find(`#${line.norm}`).textContent = line.value.toPrecision(3) + error + doubt;
    }
  });
  if (photograph !== measured) return;
  bar.hidden = true;
  find("#measure").disabled = false;
}

async function sample({ currentTarget }) {
  const name = `${currentTarget.dataset.sample}.png`;
  choose(name, await (await fetch(`samples/${name}`)).blob());
}

find("#file").addEventListener("change", ({ target }) => {
  if (target.files.length) choose(target.files[0].name, target.files[0]);
  target.value = ""; // so that the same file can be chosen again
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    find("#drop").classList.toggle("over", kind === "dragover");
    if (kind !== "drop") return;
    const [file, ...more] = event.dataTransfer.files;
    if (more.length) complain("Drop one photograph at a time.");
    else if (file) choose(file.name, file);
  });
}
all("#samples button").forEach((button) => button.addEventListener("click", sample));
all("[name=kind]").forEach((radio) => radio.addEventListener("change", see));
all("#distorted input").forEach((slider) => {
  slider.addEventListener("input", () => {
    find("#sigma-value").textContent = sigma() || "none";
    find("#quality-value").textContent = quality() || "none";
  });
  slider.addEventListener("change", distort);
});
find("#measure").addEventListener("click", measure);
