import { afterEach, expect, test } from 'vitest';
import type { BrowserContext, Page } from 'playwright-core';
import { harness } from './harness';
import { VECTORS, browse, open, readWav, rows, said, serve } from './site';
import { STREAMED } from './vectors';

const SOUND = `${VECTORS}commands.wav`;
const EXPECTED = STREAMED.find(({ model, sound }) => model === 'commands-en' && sound === 'commands.wav')!;
const FAKE = [
  '--use-fake-ui-for-media-stream',
  '--use-fake-device-for-media-stream',
  `--use-file-for-fake-audio-capture=${SOUND}%noloop`,
];
// A word is heard this long after its end at most: the issue's bound.
const MOST_DELAY_S = 0.3;

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function opened(flags: string[]): Promise<{ context: BrowserContext; page: Page; wrong: string[] }> {
  const { server, url } = await serve();
  closing.push(() => server.close());
  const { context, wrong } = await browse(url, flags);
  closing.push(() => context.close());
  return { context, page: await open(context, url), wrong };
}

test('the commands in front of the microphone are shown', async () => {
  const { page, wrong } = await opened(FAKE);
  await page.locator('#listen').focus();
  await page.keyboard.press('Enter');
  await page.locator('#events tbody tr').nth(2).waitFor({ timeout: 15_000 });
  const heard = await rows(page);
  expect(heard.map(({ text }) => text)).toEqual(EXPECTED.events!.map(({ text }) => text));
  // Where the windows lie depends on when the microphone was opened.
  for (const { confidence } of heard) expect(confidence).toBeGreaterThan(EXPECTED.threshold!);
  await page.keyboard.press('Enter');
  await said(page);
  expect(await page.locator('#listen').innerText()).toBe('Start listening');
  expect(wrong).toEqual([]);
});

test('what comes through the microphone is heard soon after its end', async () => {
  const { samples, rateHz } = readWav(SOUND);
  const client = await harness(FAKE);
  closing.push(client.close);
  const found = (await client.page.evaluate(`(async () => {
    const recognizer = await client.open('${client.at('models/commands-en.tflite')}');
    recognizer.threshold = ${EXPECTED.threshold};
    const blocks = [], heard = [];
    let last = Promise.resolve();
    const microphone = await client.Microphone.open(16000, (samples) => {
      blocks.push({ ms: performance.now(), samples: [...samples] });
      last = last.then(async () => {
        for (const event of await recognizer.feed(samples)) heard.push({ ms: performance.now(), text: event.text });
      });
    }, () => {});
    while (microphone.heardS < ${samples.length / rateHz}) await new Promise((resolve) => setTimeout(resolve, 20));
    await microphone.close();
    await last;
    return { blocks, heard };
  })()`)) as { blocks: { ms: number; samples: number[] }[]; heard: { ms: number; text: string }[] };

  const stream = found.blocks.flatMap((block) => block.samples);
  const lag = bestLag(stream, samples);
  const arrived = (sample: number) => {
    let seen = 0;
    for (const block of found.blocks) if ((seen += block.samples.length) > sample) return block.ms;
    return Infinity;
  };
  expect(found.heard.map(({ text }) => text)).toEqual(EXPECTED.events!.map(({ text }) => text));
  const ends = wordEnds(samples, rateHz);
  expect(ends.length).toBe(found.heard.length);
  const delays = found.heard.map(({ ms }, word) => (ms - arrived(lag + ends[word]!)) / 1000);
  console.log(`from a word's end to its event: ${delays.map((delay) => `${Math.round(delay * 1000)} ms`).join(', ')}`);
  for (const delay of delays) expect(delay).toBeLessThan(MOST_DELAY_S);
  expect(client.wrong).toEqual([]);
});

test('a microphone that is refused is a line on the page', async () => {
  const { page, wrong } = await opened(['--use-fake-device-for-media-stream']); // asked, nobody agrees
  await page.locator('#listen').click();
  expect(await said(page)).toMatch(/^The microphone was refused; allow it for this page/);
  expect(await page.locator('#listen').innerText()).toBe('Start listening');
  expect(wrong).toEqual([]);
});

test('no microphone is a line on the page', async () => {
  const { page, wrong } = await opened([]); // a machine that tests has none
  await page.locator('#listen').click();
  expect(await said(page)).toMatch(/^There is no microphone; connect one, or drop a recording/);
  expect(wrong).toEqual([]);
});

test('in the background it listens on, and says so', async () => {
  const { page, wrong } = await opened(FAKE);
  const turn = (state: string) =>
    page.evaluate((state) => {
      Object.defineProperty(document, 'hidden', { value: state === 'hidden', configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    }, state);
  await page.locator('#listen').click();
  await page.locator('.listening').waitFor();
  await turn('hidden');
  await page.locator('#events tbody tr').nth(2).waitFor({ timeout: 15_000 });
  expect(await page.title()).toBe('left – speechrnn');
  await turn('visible');
  expect(await page.locator('#message').innerText()).toMatch(/^Listened on in the background for \d+ s: 3 commands\.$/);
  expect(await page.title()).toBe('speechrnn');
  expect(wrong).toEqual([]);
});

test('what the browser did not hear in the background is said', async () => {
  const { page } = await opened(FAKE);
  const hidden = (value: boolean) =>
    page.evaluate((value) => {
      Object.defineProperty(document, 'hidden', { value, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    }, value);
  await page.evaluate(() => {
    const { prototype } = AudioContext;
    const resume = prototype.resume;
    prototype.resume = function () {
      (window as unknown as { context: AudioContext }).context = this;
      return resume.call(this);
    };
  });
  await page.locator('#listen').click();
  await page.locator('.listening').waitFor();
  await hidden(true);
  await page.evaluate('window.context.suspend()'); // as phones do
  await page.waitForTimeout(2500);
  await hidden(false);
  expect(await page.locator('#message').innerText()).toMatch(/^In the background the browser held the microphone for [23] of [23] s; 0 commands/);
});

/** The place of a recording in a longer one, by their correlation at every fourth sample. */
function bestLag(stream: number[], samples: Int16Array): number {
  let [best, most] = [0, -Infinity];
  for (let lag = -8000; lag < 24000; lag += 4) {
    let sum = 0;
    for (let place = Math.max(0, -lag); place < samples.length; place += 7) sum += (stream[place + lag] ?? 0) * samples[place]!;
    if (sum > most) [best, most] = [lag, sum];
  }
  return best;
}

/** Where words end: the last 10 ms louder than a hundredth of the loudest before a pause of 0.3 s. */
function wordEnds(samples: Int16Array, rateHz: number): number[] {
  const block = rateHz / 100;
  const energies = Array.from({ length: Math.floor(samples.length / block) }, (_, number) =>
    samples.slice(number * block, (number + 1) * block).reduce((sum, value) => sum + value * value, 0),
  );
  const loudest = Math.max(...energies);
  const ends: number[] = [];
  let last = -Infinity;
  energies.forEach((energy, number) => {
    if (energy < loudest / 100) return;
    if (number - last > 30) ends.push(0);
    ends[ends.length - 1] = (number + 1) * block;
    last = number;
  });
  return ends;
}
