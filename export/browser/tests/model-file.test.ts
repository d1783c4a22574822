import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { readModelFile, zipEntry } from '../src/model-file';
import { MODELS } from './site';

const file = Uint8Array.from(readFileSync(`${MODELS}commands-en.tflite`));
const bytesOf = (text: string) => new TextEncoder().encode(text);

test('what a file says about itself is read from its end', async () => {
  const { about, model } = await readModelFile('commands-en.tflite', file);
  expect(about.labels).toContain('stop');
  expect(about.features.sample_rate_hz).toBe(16000);
  expect(model.length).toBe(about.model_bytes);
  expect(new TextDecoder().decode(zipEntry(file, 'labels.txt')!).trim().split('\n')).toEqual(about.labels);
});

test('an archive that was appended as it is, its offsets counted from its own begin, is read too', () => {
  const { length } = file;
  const moved = new Uint8Array(length + 100);
  moved.set(file, 100);
  expect(zipEntry(moved, 'labels.txt')).toEqual(zipEntry(file, 'labels.txt'));
});

test('a file that was cut anywhere is refused', async () => {
  for (let share = 0; share < 1; share += 0.01) {
    const cut = file.slice(0, Math.floor(share * file.length));
    await expect(readModelFile('cut', cut)).rejects.toThrow(/^cut: (is no TFLite model|carries no metadata)/);
  }
  for (let missing = 1; missing < 200; missing++) {
    await expect(readModelFile('cut', file.slice(0, -missing))).rejects.toThrow(/cut short/);
  }
});

test('a file with another byte anywhere in its model is refused', async () => {
  for (let share = 0.001; share < 0.9; share += 0.1) {
    const changed = file.slice();
    changed[Math.floor(share * file.length)]! ^= 0x40;
    await expect(readModelFile('changed', changed)).rejects.toThrow(/^changed: was changed after it was exported/);
  }
});

test('sequences that carry no state are refused with what to do', async () => {
  const text = new TextDecoder('latin1').decode(file);
  const changed = file.slice();
  // As long as before, so that the archive stays whole; LiteRT never sees this file.
  const place = text.indexOf('"name": "probabilities"');
  changed.set(bytesOf('"name": "log_probs"    '), place);
  await expect(readModelFile('words', changed)).rejects.toThrow(/export it with --streaming$/);
});

test('what an app copies, from samples to an event, is at most 200 lines of code', () => {
  const lines = ['engine', 'windows', 'detector', 'recognizer'].flatMap((name) =>
    readFileSync(new URL(`../src/${name}.ts`, import.meta.url), 'utf8').split('\n'),
  );
  const code = lines.filter((line) => line.trim() && !/^\s*(\/\/|\/\*|\*|import )/.test(line));
  expect(code.length).toBeLessThanOrEqual(200);
});
