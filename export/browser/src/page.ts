/** What stands on the page, and what its buttons do. */

import { type Heard, isCommand } from './detector';
import { loadEngine } from './engine';
import { Microphone } from './microphone';
import { readModelFile } from './model-file';
import { Picture, clock } from './picture';
import { readRecording } from './recording';
import { Recognizer } from './recognizer';
import { selftest } from './selftest';

interface Offered {
  name: string;
  file: string;
}

// Where no threshold was picked for a model, the page begins with this one.
const THRESHOLD = 0.7;
// A recording up to this long is one command; in a longer one they are looked for.
const CLIP_S = 2;
const MOST_ROWS = 200;
const BLOCK_S = 1;

const $ = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const [models, labels, latest, events] = [$<HTMLSelectElement>('models'), $('labels'), $('latest'), $('events')];
const [listen, message, work] = [$<HTMLButtonElement>('listen'), $('message'), $('work')];
const [threshold, progress] = [$<HTMLInputElement>('threshold'), $<HTMLProgressElement>('progress')];
const picture = new Picture($<HTMLCanvasElement>('wave'), $<HTMLCanvasElement>('spectrogram'), $('axis'), $('hint'));

let recognizer: Recognizer | undefined;
let microphone: Microphone | undefined;
let cancelled = false;
let shade = 0;

// One thing at a time: what is asked for waits until what came before is done.
let before: Promise<unknown> = Promise.resolve();
let waiting = 0;

function then(task: () => Promise<unknown>): void {
  busy(1);
  before = before
    .then(task)
    .catch((error: Error) => say(error.message || String(error), true))
    .finally(() => busy(-1));
}

function busy(more: number): void {
  waiting += more;
  document.querySelector('main')!.setAttribute('aria-busy', String(waiting > 0));
}

function say(line: string, isBad = false): void {
  message.textContent = line;
  message.hidden = !line;
  message.classList.toggle('is-bad', isBad);
}

// ------------------------------------------------------------------ models

async function openModel(name: string, content: Uint8Array<ArrayBuffer>): Promise<void> {
  await stopListening();
  const opened = await readModelFile(name, content);
  const next = await Recognizer.open(opened);
  recognizer?.close();
  recognizer = next;
  const { about } = opened;
  const picked = about.decision?.threshold ?? 0;
  threshold.value = String(picked || THRESHOLD);
  applyThreshold();
  $('threshold-about').textContent =
    `${picked ? 'The threshold is the model’s' : `The model picked no threshold; ${THRESHOLD.toFixed(2)} is this page’s`}. ` +
    'Recordings and models can also be dropped anywhere here.';
  labels.replaceChildren(
    ...about.labels.map((label) => {
      const item = Object.assign(document.createElement('li'), { textContent: label, dir: 'auto' });
      item.classList.toggle('is-none', !isCommand(label));
      return item;
    }),
  );
  const weights = { none: 'float32', dynamic: 'int8 weights' }[about.quantization] ?? about.quantization;
  const facts = [`${about.labels.length} labels`, `${about.features.sample_rate_hz / 1000} kHz`, kilobytes(content.length), weights];
  if (about.streaming) facts.push('carries its state');
  const difference = await selftest(opened, recognizer);
  const bound = about.selftest?.tolerance ?? 0;
  if (difference !== undefined && difference <= bound) facts.push('self-test passed');
  $('model-about').textContent = facts.join(' · ');
  const source = about.attribution ? `Learnt from ${about.attribution}.` : '';
  $('licence').textContent = [about.licence ? `Model: ${about.licence}.` : '', source].join(' ').trim().slice(0, 200);
  listen.disabled = $<HTMLButtonElement>('open-recording').disabled = false;
  clear();
  say('');
  if (difference !== undefined && !(difference <= bound)) {
    say(`The self-test differs by ${difference.toFixed(3)}: this browser computes something else; try another.`, true);
  }
}

async function openReady({ name, file: path }: Offered): Promise<void> {
  const response = await fetch(new URL(`models/${path}`, document.baseURI));
  if (!response.ok) throw new Error(`${name}: cannot be loaded (${response.status}); is the server still there?`);
  await openModel(name, new Uint8Array(await response.arrayBuffer()));
}

async function openOwn(own: File): Promise<void> {
  const shown = models.selectedIndex;
  try {
    await openModel(own.name, new Uint8Array(await own.arrayBuffer()));
    const option = new Option(own.name);
    option.addEventListener('open', () => then(() => openOwn(own)));
    models.add(option);
    models.selectedIndex = models.length - 1;
  } catch (error) {
    models.selectedIndex = shown; // what was open stays open
    throw error;
  }
}

function kilobytes(bytes: number): string {
  return `${Math.round(bytes / 1000)} kB`;
}

function applyThreshold(): void {
  if (recognizer) recognizer.threshold = threshold.valueAsNumber;
  $('threshold-value').textContent = threshold.valueAsNumber.toFixed(2);
}

// ------------------------------------------------------------------ what was heard

function clear(): void {
  picture.clear();
  events.hidden = true;
  events.querySelector('tbody')!.replaceChildren();
  latest.replaceChildren(Object.assign(document.createElement('span'), { className: 'quiet', textContent: 'Nothing yet.' }));
  $<HTMLButtonElement>('clear').disabled = true;
}

function show(heard: Heard, time: string): void {
  const row = document.createElement('tr');
  Object.assign(row.dataset, { text: heard.text, confidence: heard.confidence, time: heard.timeS });
  row.classList.toggle('is-none', !heard.text || !isCommand(heard.text));
  const [when, what, sure] = [row.insertCell(), row.insertCell(), row.insertCell()];
  when.textContent = time;
  what.textContent = heard.text || 'nothing sure enough';
  what.dir = 'auto';
  sure.textContent = heard.confidence.toFixed(2);
  const bar = sure.appendChild(Object.assign(document.createElement('span'), { className: 'bar' }));
  bar.appendChild(document.createElement('i')).style.width = `${100 * heard.confidence}%`;
  const body = events.querySelector('tbody')!;
  body.prepend(row);
  while (body.rows.length > MOST_ROWS) body.rows[MOST_ROWS]!.remove();
  events.hidden = false;
  $<HTMLButtonElement>('clear').disabled = false;
  if (heard.text) {
    latest.textContent = heard.text;
    picture.mark(heard);
    light(heard.text);
  }
}

function light(text: string): void {
  clearTimeout(shade);
  for (const item of labels.children) item.classList.toggle('is-heard', item.textContent === text);
  shade = window.setTimeout(() => labels.querySelector('.is-heard')?.classList.remove('is-heard'), 1200);
}

// ------------------------------------------------------------------ microphone

async function startListening(): Promise<void> {
  const hears = recognizer!;
  clear();
  say('');
  hears.reset();
  microphone = await Microphone.open(
    hears.rateHz,
    (samples) => {
      picture.push(samples, hears.rateHz);
      then(async () => {
        if (recognizer !== hears) return;
        for (const heard of await hears.feed(samples)) heardLive(heard);
        if (hears.soFar) latest.textContent = hears.soFar;
      });
    },
    (line) => then(() => stopListening().then(() => say(line, true))),
  );
  listen.classList.add('listening');
  $('listen-text').textContent = 'Stop listening';
}

async function stopListening(): Promise<void> {
  const closing = microphone;
  if (!closing) return;
  microphone = undefined;
  listen.classList.remove('listening');
  $('listen-text').textContent = 'Start listening';
  document.title = 'speechrnn';
  await closing.close();
  for (const heard of (await recognizer?.finish()) ?? []) heardLive(heard);
}

function heardLive(heard: Heard): void {
  if (!heard.text) return; // an utterance that was not sure enough
  show(heard, clock(heard.timeS, 0));
  if (document.hidden) {
    hiddenEvents++;
    document.title = `${heard.text} – speechrnn`;
  }
}

let hiddenMs = 0;
let hiddenEvents = 0;
let lostBeforeS = 0;

document.addEventListener('visibilitychange', () => {
  if (!microphone) return;
  if (document.hidden) {
    [hiddenMs, hiddenEvents, lostBeforeS] = [performance.now(), 0, microphone.lostS];
    return;
  }
  const awayS = Math.round((performance.now() - hiddenMs) / 1000);
  const lostS = Math.round(microphone.lostS - lostBeforeS);
  document.title = 'speechrnn';
  void microphone.resume();
  const counted = `${hiddenEvents} ${hiddenEvents === 1 ? 'command' : 'commands'}`;
  say(
    lostS > 0
      ? `In the background the browser held the microphone for ${lostS} of ${awayS} s; ${counted} in the rest. Keep this tab in front to hear all.`
      : `Listened on in the background for ${awayS} s: ${counted}.`,
    lostS > 0,
  );
});

// ------------------------------------------------------------------ recordings

async function hearRecording(chosen: File): Promise<void> {
  await stopListening();
  const hears = recognizer!;
  clear();
  say(`${chosen.name}: reading…`);
  const { name, samples } = await readRecording(chosen, hears.rateHz, hears.about.min_samples);
  picture.show(samples, hears.rateHz);
  const lengthS = samples.length / hears.rateHz;
  if (lengthS <= CLIP_S) {
    const began = performance.now();
    const heard = await hears.transcribe(samples);
    const tookMs = performance.now() - began;
    show(heard, 'whole clip');
    message.dataset.ms = String(tookMs);
    say(`${name}: ${clock(lengthS)}, answered in ${tookMs.toFixed(1)} ms.`);
    return;
  }
  await hearLong(hears, name, samples);
}

async function hearLong(hears: Recognizer, name: string, samples: Float32Array): Promise<void> {
  const [lengthS, block] = [samples.length / hears.rateHz, BLOCK_S * hears.rateHz];
  const began = performance.now();
  let [count, drawn, place] = [0, began, 0];
  const take = (found: Heard[]) => {
    for (const heard of found.filter(({ text }) => text)) {
      show(heard, clock(heard.timeS, lengthS));
      count++;
    }
  };
  hears.reset();
  [cancelled, work.hidden, progress.value] = [false, false, 0];
  say(`${name}: listening to ${clock(lengthS)}…`);
  try {
    for (; place < samples.length && !cancelled; place += block) {
      take(await hears.feed(samples.subarray(place, place + block)));
      if (performance.now() - drawn > 30) {
        progress.value = place / samples.length;
        await breathe();
        drawn = performance.now();
      }
    }
    take(await hears.finish());
  } finally {
    work.hidden = true;
  }
  const found = `${count} ${count === 1 ? 'command' : 'commands'}`;
  const tookS = (performance.now() - began) / 1000;
  say(
    cancelled
      ? `${name}: stopped after ${clock(place / hears.rateHz, lengthS)} of ${clock(lengthS)}: ${found}.`
      : `${name}: ${clock(lengthS)}, ${found}, heard in ${clock(tookS, 0)}.`,
  );
}

/** Lets the page react and draw; as quick in the background, where timers are slowed down. */
function breathe(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => resolve();
    port2.postMessage(0);
  });
}

// ------------------------------------------------------------------ buttons, drops, and the begin

function take(given: Iterable<File>): void {
  for (const one of given) {
    if (/\.tflite$/i.test(one.name)) then(() => openOwn(one));
    else if (recognizer) then(() => hearRecording(one));
    else say('No model is open; open a .tflite first.', true);
  }
}

function connect(button: string, input: string): void {
  const chooser = $<HTMLInputElement>(input);
  $(button).addEventListener('click', () => chooser.click());
  chooser.addEventListener('change', () => {
    take(chooser.files ?? []);
    chooser.value = ''; // the same file may be chosen again
  });
}

connect('open-model', 'model-file');
connect('open-recording', 'recording-file');
listen.addEventListener('click', () => then(() => (microphone ? stopListening() : startListening())));
threshold.addEventListener('input', applyThreshold);
$('cancel').addEventListener('click', () => (cancelled = true));
$('clear').addEventListener('click', clear);
models.addEventListener('change', () => models.selectedOptions[0]?.dispatchEvent(new Event('open')));

for (const kind of ['dragenter', 'dragover', 'dragleave', 'drop']) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    const { relatedTarget, dataTransfer } = event as DragEvent;
    $('drop').hidden = kind === 'drop' || (kind === 'dragleave' && !relatedTarget);
    if (kind === 'drop') take(dataTransfer?.files ?? []);
  });
}

/** Offline once loaded: from now on what is fetched passes through the worker, which keeps it. */
async function keep(): Promise<void> {
  if (!import.meta.env.PROD || !navigator.serviceWorker) return;
  try {
    await navigator.serviceWorker.register('sw.js');
    if (navigator.serviceWorker.controller) return;
    const claimed = new Promise((resolve) => navigator.serviceWorker.addEventListener('controllerchange', resolve));
    await Promise.race([claimed, new Promise((resolve) => setTimeout(resolve, 3000))]);
  } catch {
    // Without it the page works as long as the server is there.
  }
}

then(async () => {
  await keep();
  const offered = (await (await fetch(new URL('models/index.json', document.baseURI))).json()) as Offered[];
  for (const one of offered) {
    const option = new Option(one.name);
    option.addEventListener('open', () => then(() => openReady(one)));
    models.add(option);
  }
  await loadEngine();
  await openReady(offered[0]!);
  if (!navigator.serviceWorker?.controller) return;
  for (const { file: path } of offered.slice(1)) void fetch(new URL(`models/${path}`, document.baseURI)).catch(() => {});
  $('offline').textContent = 'This page works without a network now.';
});
