"use strict";

const byId = (id) => document.getElementById(id);
const MAX_SHOWN = 200; // results
const AT_ONCE = 4; // requests
let models = [];
let stream = null;

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function say(text, isProblem = false) {
  byId("message").textContent = text;
  byId("message").classList.toggle("problem", isProblem);
}

async function answerOf(response) {
  const content = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(content.error || `the server answered ${response.status}`);
  return content;
}

async function loadModels() {
  models = await answerOf(await fetch("/api/models"));
  for (const model of models) {
    const label = element("label");
    const box = element("input");
    box.type = "checkbox";
    box.checked = true;
    box.value = model.name;
    label.append(box, ` ${model.name} `, element("small", "name", `(${model.classes.length} classes)`));
    byId("models").append(label);
  }
}

function chosenModels() {
  const names = [...byId("models").querySelectorAll("input:checked")].map((box) => box.value);
  return models.filter((model) => names.includes(model.name));
}

function bars(classes) {
  return classes.map((each) => {
    const row = element("div", "row");
    const bar = element("progress");
    bar.max = 1;
    bar.value = each.probability;
    bar.setAttribute("aria-hidden", "true"); // the number says the same
    row.append(element("span", "", each.class), element("span", "", `${(100 * each.probability).toFixed(1)} %`), bar);
    return row;
  });
}

function showAnswer(card, model, picture, answer) {
  if (answer.map) {
    const map = element("div", "map");
    for (const source of [picture, answer.map]) {
      const image = element("img", source === picture ? model.resize : "");
      image.src = source;
      image.alt = source === picture ? "" : `what speaks for ${answer.classes[0].class}`;
      map.append(image);
    }
    card.append(map);
  }
  const text = element("div", "text");
  text.append(element("h2", "", model.name));
  if (answer.problem) text.append(element("p", "problem", answer.problem));
  else text.append(...bars(answer.classes));
  card.append(text);
}

function newResult(file) {
  const node = element("article", "result");
  const picture = element("img");
  picture.src = URL.createObjectURL(file);
  picture.alt = file.name;
  const body = element("div");
  const answers = element("div", "answers");
  body.append(element("p", "name", file.name), answers);
  node.append(picture, body);
  return { file, node, answers, picture: picture.src };
}

async function classifyOne(result, model, card) {
  const form = new FormData();
  form.append("files", result.file, result.file.name);
  const query = new URLSearchParams({ model: model.name, maps: byId("maps").checked ? "1" : "0" });
  let answer;
  try {
    [answer] = await answerOf(await fetch(`/api/predict?${query}`, { method: "POST", body: form }));
  } catch (error) {
    const lost = error instanceof TypeError; // no answer, or a folder that cannot be read
    answer = { problem: lost ? "The file cannot be sent, or the server does not answer." : error.message };
  }
  showAnswer(card, model, result.picture, answer);
}

async function classify(files) {
  const chosen = chosenModels();
  if (!files.length) return;
  if (!chosen.length) return say("Choose a model first.", true);
  const left = files.length - MAX_SHOWN;
  files = files.slice(0, MAX_SHOWN);
  const pictures = files.length === 1 ? "1 picture" : `${files.length} pictures`;
  say(`Classifying ${pictures} …`);
  const results = files.map(newResult);
  const list = byId("results");
  list.prepend(...results.map((result) => result.node));
  while (list.children.length > MAX_SHOWN) {
    const old = list.lastElementChild;
    URL.revokeObjectURL(old.querySelector("img").src);
    old.remove();
  }
  const tasks = results.flatMap((result) => chosen.map((model) => {
    const card = element("section", "answer"); // in the order of the models, not of the answers
    result.answers.append(card);
    return () => classifyOne(result, model, card);
  }));
  const worker = async () => {
    for (let task = tasks.shift(); task; task = tasks.shift()) await task();
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  const limit = left > 0 ? ` ${left} more were left out: ${MAX_SHOWN} are shown at once.` : "";
  say(`Classified ${pictures}.${limit}`);
}

async function openCamera() {
  byId("camera").disabled = true;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    byId("video").srcObject = stream;
    byId("viewfinder").hidden = false;
    byId("shoot").focus();
  } catch (error) {
    closeCamera();
    say("The camera cannot be used.", true);
  }
}

function closeCamera() {
  if (stream) for (const track of stream.getTracks()) track.stop();
  stream = null;
  byId("video").srcObject = null;
  byId("viewfinder").hidden = true;
  byId("camera").disabled = false;
  byId("camera").focus();
}

function shoot() {
  const video = byId("video");
  if (!video.videoWidth) return;
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => {
    closeCamera();
    if (blob) classify([new File([blob], "camera.png", { type: "image/png" })]);
  }, "image/png");
}

const drop = byId("drop");
for (const kind of ["dragenter", "dragover"]) {
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
window.addEventListener("dragover", (event) => event.preventDefault());
window.addEventListener("drop", (event) => {
  event.preventDefault();
  classify([...event.dataTransfer.files]);
});
window.addEventListener("paste", (event) => classify([...event.clipboardData.files]));
byId("files").addEventListener("change", (event) => {
  classify([...event.target.files]);
  event.target.value = "";
});
byId("camera").addEventListener("click", openCamera);
byId("shoot").addEventListener("click", shoot);
byId("close-camera").addEventListener("click", closeCamera);
loadModels().catch((error) => say(error.message, true));
