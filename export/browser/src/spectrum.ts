/** The spectrum of a piece of sound, as bands for a picture. */

export const BANDS = 96;
/** Samples that a spectrum looks at. */
export const WINDOW = 512;
const FLOOR_DB = -90; // of full scale: what the picture shows as nothing
const CEILING_DB = -20;

const HANN = Float32Array.from({ length: WINDOW }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / WINDOW));

/** 0 to 255 for each band, low frequencies first, of the samples that end before `end`. */
export function bandsOf(samples: Float32Array, end: number): Uint8Array {
  const real = new Float32Array(WINDOW);
  const imaginary = new Float32Array(WINDOW);
  for (let n = 0; n < WINDOW; n++) real[n] = (samples[end - WINDOW + n] ?? 0) * HANN[n]!;
  transform(real, imaginary);
  return Uint8Array.from({ length: BANDS }, (_, band) => {
    const first = Math.floor((band * WINDOW) / 2 / BANDS);
    const behind = Math.floor(((band + 1) * WINDOW) / 2 / BANDS);
    let most = 0;
    for (let bin = first; bin < behind; bin++) most = Math.max(most, real[bin]! ** 2 + imaginary[bin]! ** 2);
    const db = 10 * Math.log10(most / (WINDOW / 4) ** 2 + 1e-12);
    return Math.round(255 * Math.min(1, Math.max(0, (db - FLOOR_DB) / (CEILING_DB - FLOOR_DB))));
  });
}

/** The fast Fourier transform in place, of a power of two (Cooley and Tukey 1965). */
export function transform(real: Float32Array, imaginary: Float32Array): void {
  const size = real.length;
  for (let place = 1, mirrored = 0; place < size; place++) {
    let bit = size >> 1;
    for (; mirrored & bit; bit >>= 1) mirrored ^= bit;
    mirrored ^= bit;
    if (place < mirrored) {
      [real[place], real[mirrored]] = [real[mirrored]!, real[place]!];
      [imaginary[place], imaginary[mirrored]] = [imaginary[mirrored]!, imaginary[place]!];
    }
  }
  for (let length = 2; length <= size; length *= 2) {
    for (let place = 0; place < length / 2; place++) {
      const angle = (-2 * Math.PI * place) / length;
      const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
      for (let one = place; one < size; one += length) {
        const other = one + length / 2;
        const re = real[other]! * cosine - imaginary[other]! * sine;
        const im = real[other]! * sine + imaginary[other]! * cosine;
        [real[other], imaginary[other]] = [real[one]! - re, imaginary[one]! - im];
        [real[one], imaginary[one]] = [real[one]! + re, imaginary[one]! + im];
      }
    }
  }
}
