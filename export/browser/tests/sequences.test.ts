import { expect, test } from 'vitest';
import { bestPath, logLikelihood } from '../src/sequences';
import { transform } from '../src/spectrum';

/** Steps of log-probabilities, the same at each call. */
function steps(count: number, columns: number): Float32Array[] {
  let state = 7;
  const draw = () => (state = (state * 48271) % 2147483647) / 2147483647;
  return Array.from({ length: count }, () => {
    const odds = Array.from({ length: columns }, () => Math.exp(3 * draw()));
    const total = odds.reduce((sum, value) => sum + value, 0);
    return Float32Array.from(odds, (value) => Math.log(value / total));
  });
}

function* pathsOf(count: number, columns: number): Generator<number[]> {
  if (!count) return yield [];
  for (const path of pathsOf(count - 1, columns)) {
    for (let column = 0; column < columns; column++) yield [...path, column];
  }
}

const spelled = (path: number[]) => path.filter((column, step) => column && column !== path[step - 1]);
const scored = (path: number[], rows: Float32Array[]) => path.reduce((sum, column, step) => sum + rows[step]![column]!, 0);

test('the likelihood of symbols is the sum over all paths that spell them', () => {
  const rows = steps(5, 3);
  const sums = new Map<string, number>();
  for (const path of pathsOf(5, 3)) {
    const key = spelled(path).join();
    sums.set(key, (sums.get(key) ?? 0) + Math.exp(scored(path, rows)));
  }
  let total = 0;
  for (const [key, sum] of sums) {
    const found = Math.exp(logLikelihood(rows, key ? key.split(',').map(Number) : []));
    expect(found).toBeCloseTo(sum, 6);
    total += found;
  }
  expect(total).toBeCloseTo(1, 6);
});

test.each([0, 0.5, 3])('no path is better than the best one, where a symbol costs %s', (cost) => {
  const rows = steps(6, 3);
  const worth = (path: number[]) => scored(path, rows) - cost * spelled(path).length;
  const best = Math.max(...[...pathsOf(6, 3)].map(worth));
  expect(worth(bestPath(rows, cost))).toBeCloseTo(best, 5);
});

test('nothing has a path of no steps', () => expect(bestPath([], 0)).toEqual([]));

test('the fast transform is the slow one', () => {
  const size = 64;
  const wave = Float32Array.from({ length: size }, (_, n) => Math.sin(0.3 * n) + 0.2 * Math.cos(2.1 * n));
  const [real, imaginary] = [wave.slice(), new Float32Array(size)];
  transform(real, imaginary);
  for (let bin = 0; bin < size; bin++) {
    let [re, im] = [0, 0];
    wave.forEach((value, n) => {
      re += value * Math.cos((2 * Math.PI * bin * n) / size);
      im -= value * Math.sin((2 * Math.PI * bin * n) / size);
    });
    expect(real[bin]).toBeCloseTo(re, 3);
    expect(imaginary[bin]).toBeCloseTo(im, 3);
  }
});
