import { afterAll, beforeAll, expect, test } from 'vitest';
import { harness } from './harness';
import { ALL, MODELS_OF_VECTORS, STREAMED, TOLERANCE, type Vector } from './vectors';

let client: Awaited<ReturnType<typeof harness>>;
beforeAll(async () => {
  client = await harness();
});
afterAll(() => client.close());

const addresses = (vector: Vector) => [
  client.at(`vectors/${MODELS_OF_VECTORS[vector.model]!.file}`),
  client.at(`vectors/${vector.sound}`),
];

test.each(ALL)('$model hears in $sound the words of the Python runtime, as sure', async (vector) => {
  const [model, sound] = addresses(vector);
  const heard = (await client.page.evaluate(`(async () => {
    const recognizer = await client.open('${model}');
    const heard = await recognizer.transcribe(await client.samples('${sound}'));
    recognizer.close();
    return heard;
  })()`)) as { text: string; confidence: number };
  expect(heard.text).toBe(vector.text);
  expect(Math.abs(heard.confidence - vector.confidence)).toBeLessThan(TOLERANCE);
});

test.each(ALL.filter(({ probabilities }) => probabilities))('$model has for $sound the probabilities of the Python runtime', async (vector) => {
  const [model, sound] = addresses(vector);
  const probabilities = (await client.page.evaluate(`(async () => {
    const recognizer = await client.open('${model}');
    const found = await client.answerTo(recognizer.engine, recognizer.about, await client.samples('${sound}'));
    recognizer.close();
    return [...found];
  })()`)) as number[];
  expect(probabilities.length).toBe(vector.probabilities!.length);
  const differences = probabilities.map((value, label) => Math.abs(value - vector.probabilities![label]!));
  expect(Math.max(...differences)).toBeLessThan(TOLERANCE);
});

test.each(STREAMED)('$model hears in the stream $sound the events of the Python runtime', async (vector) => {
  const [model, sound] = addresses(vector);
  // The second time in other chunks, by the same recognizer: what was before is forgotten.
  const heard = (await client.page.evaluate(`(async () => {
    const recognizer = await client.open('${model}');
    recognizer.threshold = ${vector.threshold};
    const samples = await client.samples('${sound}');
    const heard = [];
    for (const sizes of [${JSON.stringify(vector.chunks)}, [320]]) {
      const events = [];
      for (let place = 0, chunk = 0; place < samples.length; chunk++) {
        const size = sizes[chunk % sizes.length];
        events.push(...(await recognizer.feed(samples.slice(place, place + size))));
        place += size;
      }
      heard.push([...events, ...(await recognizer.finish())]);
    }
    recognizer.close();
    return heard;
  })()`)) as { text: string; confidence: number; timeS: number }[][];
  for (const events of heard) {
    expect(events.map(({ text }) => text)).toEqual(vector.events!.map(({ text }) => text));
    events.forEach(({ confidence, timeS }, place) => {
      expect(Math.abs(confidence - vector.events![place]!.confidence)).toBeLessThan(TOLERANCE);
      expect(Math.abs(timeS - vector.events![place]!.time_s)).toBeLessThan(1e-5);
    });
  }
});

test('nothing goes to the console as an error, and nothing leaves the origin', () => {
  expect(client.wrong).toEqual([]);
});
