import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { BrowserContext, Page } from 'playwright-core';
import type { PreviewServer } from 'vite';
import { MODELS, VECTORS, browse, dropped, open, pick, readWav, rows, said, serve, setThreshold, wav } from './site';
import { ALL, MODELS_OF_VECTORS, TOLERANCE } from './vectors';

const CLIPS = ALL.filter(({ samples, model }) => samples <= (model.startsWith('tones') ? 16000 : 32000));
const LONGER = ALL.filter((vector) => vector.events && !CLIPS.includes(vector));

let server: PreviewServer;
let context: BrowserContext;
let page: Page;
let wrong: string[];

beforeAll(async () => {
  const site = await serve();
  server = site.server;
  ({ context, wrong } = await browse(site.url));
  page = await open(context, site.url);
});
afterAll(async () => {
  await context.close();
  await server.close();
});

async function choose(model: string): Promise<void> {
  const file = MODELS_OF_VECTORS[model]!.file;
  if (file.startsWith('..')) await pick(page, model);
  else expect(await dropped(page, `${model}.tflite`, `${VECTORS}${file}`)).toBe('');
}

describe('dropped recordings', () => {
  test.each(CLIPS)('$model answers to $sound as the Python runtime', async ({ model, sound, text, confidence }) => {
    await choose(model);
    if (model.startsWith('commands')) await setThreshold(page, 0); // the files' own
    expect(await dropped(page, sound, `${VECTORS}${sound}`)).toMatch(/answered in/);
    const [heard] = await rows(page);
    expect(heard!.text).toBe(text);
    expect(Math.abs(heard!.confidence - confidence)).toBeLessThan(TOLERANCE);
  });

  test.each(LONGER)('$model hears the events of the Python runtime in $sound', async (vector) => {
    await choose(vector.model);
    await setThreshold(page, vector.threshold!);
    expect(await dropped(page, vector.sound, `${VECTORS}${vector.sound}`)).toMatch(/heard in/);
    const heard = await rows(page);
    expect(heard.map(({ text }) => text)).toEqual(vector.events!.map(({ text }) => text));
    heard.forEach(({ confidence, time }, place) => {
      expect(Math.abs(confidence - vector.events![place]!.confidence)).toBeLessThan(TOLERANCE);
      expect(Math.abs(time - vector.events![place]!.time_s)).toBeLessThan(1e-5);
    });
  });

  test('a clip of a second is answered within 30 ms', async () => {
    await pick(page, 'commands-en');
    const took: number[] = [];
    for (let round = 0; round < 9; round++) {
      await dropped(page, 'stop.wav', `${VECTORS}stop.wav`);
      took.push(Number(await page.locator('#message').getAttribute('data-ms')));
    }
    const median = took.sort((one, other) => one - other)[4]!;
    console.log(`a clip of a second: ${median.toFixed(1)} ms (median of 9)`);
    expect(median).toBeLessThan(30);
  });

  test('a recording of another rate is resampled', async () => {
    const { samples, rateHz } = readWav(`${VECTORS}stop.wav`);
    const tripled = new Int16Array(samples.length * 3); // at 48 kHz, by a straight line between samples
    for (let place = 0; place < tripled.length; place++) {
      const [one, other] = [samples[Math.floor(place / 3)]!, samples[Math.min(samples.length - 1, Math.floor(place / 3) + 1)]!];
      tripled[place] = one + ((other - one) * (place % 3)) / 3;
    }
    expect(await dropped(page, 'stop48.wav', wav(tripled, 3 * rateHz))).toMatch(/^stop48.wav: 1.00 s, answered/);
    const [heard] = await rows(page);
    expect(heard!.text).toBe('stop');
    expect(heard!.confidence).toBeGreaterThan(0.9);
  });
});

describe('what is wrong is said on the page', () => {
  const model = readFileSync(`${MODELS}commands-en.tflite`);

  beforeEach(() => pick(page, 'commands-en'));

  test('a file that is no sound', async () => {
    expect(await dropped(page, 'notes.txt', Buffer.from('no sound at all'))).toContain('is no sound that this browser can read; expected WAV');
  });

  test('an empty file', async () => {
    expect(await dropped(page, 'empty.wav', Buffer.alloc(0))).toBe('empty.wav: is empty; expected a recording');
  });

  test('a recording that is too short', async () => {
    expect(await dropped(page, 'short.wav', wav(new Int16Array(100), 16000))).toContain('100 samples are too short; the model answers from 400 on');
  });

  test('a model of another program', async () => {
    const other = Buffer.alloc(64);
    other.write('TFL3', 4);
    expect(await dropped(page, 'other.tflite', other)).toContain('carries no metadata of speechrnn');
  });

  test('a file that is no model', async () => {
    expect(await dropped(page, 'words.tflite', Buffer.from('no model at all'))).toContain('is no TFLite model; expected a .tflite from speechrnn export');
  });

  test('a model that was cut short', async () => {
    expect(await dropped(page, 'cut.tflite', model.subarray(0, -1000))).toContain('it was cut short');
  });

  test('a model with another bit', async () => {
    const bytes = Buffer.from(model);
    bytes[300_000]! ^= 1;
    expect(await dropped(page, 'bit.tflite', bytes)).toContain('was changed after it was exported; export it again');
  });

  test('a model of a newer format', async () => {
    const bytes = Buffer.from(model);
    const place = bytes.indexOf('"format_version": 1');
    bytes.write('9', place + '"format_version": '.length);
    expect(await dropped(page, 'newer.tflite', bytes)).toContain('file format 9, this page reads 1');
  });

  test('and the model that was open still answers', async () => {
    await dropped(page, 'cut.tflite', model.subarray(0, -1000));
    expect(await page.locator('#models').inputValue()).toBe('commands-en');
    await dropped(page, 'stop.wav', `${VECTORS}stop.wav`);
    expect((await rows(page))[0]!.text).toBe('stop');
  });
});

describe('half an hour', () => {
  const half = () => {
    const { samples, rateHz } = readWav(`${VECTORS}commands.wav`);
    const long = new Int16Array(30 * 60 * rateHz);
    long.set(samples);
    long.set(samples, long.length - samples.length);
    return wav(long, rateHz);
  };

  test('is heard to its end, with progress, and can be stopped', async () => {
    // Through the file chooser: a drop would pass 58 MB through the test's protocol as text.
    await pick(page, 'commands-en');
    const file = join(mkdtempSync(join(tmpdir(), 'half-')), 'half.wav');
    writeFileSync(file, half());
    await page.locator('#recording-file').setInputFiles(file);
    await page.waitForFunction(() => (document.getElementById('progress') as HTMLProgressElement).value > 0.02);
    await page.locator('#cancel').click();
    expect(await said(page)).toMatch(/half.wav: stopped after \d+:\d\d of 30:00: \d+ commands?\./);
    await page.locator('#recording-file').setInputFiles(file);
    await page.locator('#progress').waitFor();
    const line = await said(page);
    console.log(line);
    expect(line).toMatch(/^half.wav: 30:00, \d+ commands, heard in/);
    const heard = await rows(page);
    expect(heard.at(-1)!.time).toBeGreaterThan(29 * 60);
    expect(heard.slice(0, 3).map(({ text }) => text)).toEqual(['right', 'no', 'left']);
  }, 180_000);

  test('more than 45 minutes are refused', async () => {
    const head = wav(new Int16Array(0), 16000);
    head.writeUInt32LE(2 * 16000 * 60 * 74, 40);
    const file = join(mkdtempSync(join(tmpdir(), 'long-')), 'long.wav');
    const handle = openSync(file, 'w');
    writeSync(handle, head);
    ftruncateSync(handle, 44 + 2 * 16000 * 60 * 74);
    closeSync(handle);
    await page.locator('#recording-file').setInputFiles(file);
    expect(await said(page)).toBe(
      'long.wav: 74 minutes, this page takes up to 45 minutes; cut it, or use speechrnn transcribe',
    );
  });
});

test('all buttons are reached and used by keyboard', async () => {
  await pick(page, 'commands-en');
  await page.locator('#models').focus();
  const reached = [];
  for (let press = 0; press < 5; press++) {
    await page.keyboard.press('Tab');
    reached.push(await page.evaluate(() => document.activeElement!.id));
  }
  expect(reached).toEqual(expect.arrayContaining(['open-model', 'listen', 'open-recording', 'threshold']));
  await page.locator('#threshold').focus();
  await setThreshold(page, 0.5);
  await page.locator('#threshold').evaluate((range) => ((range as HTMLInputElement).step = '0.01'));
  await page.keyboard.press('ArrowRight');
  expect(await page.locator('#threshold-value').innerText()).toBe('0.51');
});

test.each([320, 390, 1280])('nothing is wider than a page of %i pixels', async (width) => {
  await page.setViewportSize({ width, height: 800 });
  const [wide, seen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  expect(wide).toBeLessThanOrEqual(seen!);
});

test('nothing goes to the console as an error, and nothing leaves the origin', () => {
  expect(wrong).toEqual([]);
});
