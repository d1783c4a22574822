/** Waveform, spectrogram and events over time: the last seconds of a stream, or a whole recording. */

import type { Heard } from './detector';
import { BANDS, WINDOW, bandsOf } from './spectrum';
import { joined } from './windows';

const LIVE_S = 8;
const COLUMNS = 800;
const TICK_PIXELS = 64;
const TICKS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600];

interface Column {
  low: number;
  high: number;
  bands: Uint8Array;
}

export class Picture {
  private columns: Column[] = [];
  private marks: Heard[] = [];
  private tail = new Float32Array(0); // of the stream: what a spectrum still needs
  private drawn = 0; // of the tail: samples that have their column
  private live = true;
  private seconds = LIVE_S;
  private behindS = 0; // seconds that have left the picture
  private drawing = 0;

  constructor(
    private readonly wave: HTMLCanvasElement,
    private readonly spectrogram: HTMLCanvasElement,
    private readonly axis: HTMLElement,
    private readonly hint: HTMLElement,
  ) {
    new ResizeObserver(() => this.draw()).observe(wave);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.draw());
    this.draw();
  }

  clear(): void {
    [this.columns, this.marks, this.tail] = [[], [], new Float32Array(0)];
    [this.seconds, this.behindS, this.drawn, this.live] = [LIVE_S, 0, 0, true];
    this.draw();
  }

  /** Moves on by the samples of a stream. */
  push(samples: Float32Array, rateHz: number): void {
    const hop = (rateHz * LIVE_S) / COLUMNS;
    const both = joined(this.tail, samples);
    for (; this.drawn + hop <= both.length; this.drawn += hop) {
      this.columns.push(column(both, Math.floor(this.drawn), Math.floor(this.drawn + hop)));
      if (this.columns.length > COLUMNS) {
        this.columns.shift();
        this.behindS += hop / rateHz;
      }
    }
    const cut = Math.max(0, Math.floor(this.drawn) - WINDOW);
    this.tail = both.slice(cut);
    this.drawn -= cut;
    this.draw();
  }

  /** Shows the whole of a recording. */
  show(samples: Float32Array, rateHz: number): void {
    this.clear();
    [this.seconds, this.live] = [samples.length / rateHz, false];
    const hop = samples.length / COLUMNS;
    this.columns = Array.from({ length: COLUMNS }, (_, place) =>
      column(samples, Math.floor(place * hop), Math.max(Math.floor((place + 1) * hop), Math.floor(place * hop) + 1)),
    );
    this.draw();
  }

  mark(heard: Heard): void {
    this.marks.push(heard);
    this.draw();
  }

  /** Draws before the next frame; a tab in the background has none, and draws nothing. */
  private draw(): void {
    if (this.drawing) return;
    this.drawing = requestAnimationFrame(() => {
      this.drawing = 0;
      this.hint.hidden = this.columns.length > 0;
      const style = getComputedStyle(this.wave);
      this.drawWave(style);
      this.drawSpectrogram(style);
      this.drawAxis();
    });
  }

  private drawWave(style: CSSStyleDeclaration): void {
    const scale = devicePixelRatio || 1;
    const [width, height] = [this.wave.clientWidth, this.wave.clientHeight];
    [this.wave.width, this.wave.height] = [Math.round(width * scale), Math.round(height * scale)];
    const pen = this.wave.getContext('2d')!;
    pen.scale(scale, scale);
    const [top, middle] = [20, 20 + (height - 20) / 2];
    pen.fillStyle = style.getPropertyValue('--line');
    pen.fillRect(0, middle - 0.5, width, 1);
    pen.fillStyle = style.getPropertyValue('--wave');
    const loudest = this.columns.reduce((most, one) => Math.max(most, one.high, -one.low), 0.1);
    const unit = (height - top) / 2 / loudest;
    const step = width / COLUMNS;
    const first = COLUMNS - this.columns.length;
    this.columns.forEach(({ low, high }, place) => {
      const tall = Math.max(1, (high - low) * unit);
      pen.fillRect((first + place) * step, middle - high * unit, Math.max(step, 0.7), tall);
    });
    this.drawMarks(pen, style, width, height);
  }

  private drawMarks(pen: CanvasRenderingContext2D, style: CSSStyleDeclaration, width: number, height: number): void {
    pen.font = `600 13px ${style.fontFamily}`;
    pen.textBaseline = 'top';
    const firstS = this.behindS - ((COLUMNS - this.columns.length) / COLUMNS) * this.seconds;
    const placeOf = (time: number) => ((time - firstS) / this.seconds) * width;
    let free = -Infinity; // names that would lie on each other are left out, their bands are not
    for (const { text, spanS } of this.marks) {
      const [left, right] = spanS.map(placeOf) as [number, number];
      if (right < 0 || left > width) continue;
      pen.fillStyle = style.getPropertyValue('--band');
      pen.fillRect(left + 1, 0, right - left - 2, height);
      pen.fillStyle = style.getPropertyValue('--accent');
      pen.fillRect(left + 1, height - 3, right - left - 2, 3);
      const wide = pen.measureText(text).width;
      const place = Math.min(Math.max(4, (left + right - wide) / 2), width - wide - 4);
      if (place < free) continue;
      pen.fillText(text, place, 4);
      free = place + wide + 6;
    }
  }

  private drawSpectrogram(style: CSSStyleDeclaration): void {
    [this.spectrogram.width, this.spectrogram.height] = [COLUMNS, BANDS];
    const pen = this.spectrogram.getContext('2d')!;
    const image = pen.createImageData(COLUMNS, BANDS);
    const palette = ['--faint', '--middle', '--strong'].map((name) => numbers(style.getPropertyValue(name)));
    const levels = Array.from({ length: 256 }, (_, level) => shade(palette, level / 255));
    const shades = new Uint32Array(Uint8ClampedArray.from(levels.flat()).buffer); // a pixel each
    const pixels = new Uint32Array(image.data.buffer);
    const first = COLUMNS - this.columns.length;
    this.columns.forEach(({ bands }, place) => {
      for (let band = 0; band < BANDS; band++) {
        pixels[(BANDS - 1 - band) * COLUMNS + first + place] = shades[bands[band]!]!;
      }
    });
    pen.putImageData(image, 0, 0);
  }

  private drawAxis(): void {
    const most = Math.min(8, this.axis.clientWidth / TICK_PIXELS);
    const step = TICKS_S.find((tick) => this.seconds / tick <= most) ?? this.seconds;
    const count = Math.floor(this.seconds / step + 1e-6) + 1;
    const ticks = Array.from({ length: count }, (_, number) => {
      const time = number * step;
      const live = time ? `−${time} s` : 'now';
      const whole = this.seconds < 60 ? `${Number(time.toFixed(1))} s` : clock(time, this.seconds);
      return { text: this.live ? live : whole, part: time / this.seconds };
    });
    const shown = ticks.map(({ text }) => text).join();
    if (this.axis.dataset.ticks === shown) return;
    this.axis.dataset.ticks = shown;
    this.axis.replaceChildren(
      ...ticks.map(({ text, part }) => {
        const tick = Object.assign(document.createElement('span'), { textContent: text });
        tick.style.left = `${100 * (this.live ? 1 - part : part)}%`;
        return tick;
      }),
    );
  }
}

/** Seconds as a person reads them: 1.25 s, 1:45, 1:02:03. */
export function clock(seconds: number, ofS = seconds): string {
  if (ofS < 60) return `${seconds.toFixed(ofS < 20 ? 2 : 1)} s`;
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const rest = String(Math.floor(seconds % 60)).padStart(2, '0');
  return hours ? `${hours}:${String(minutes).padStart(2, '0')}:${rest}` : `${minutes}:${rest}`;
}

function column(samples: Float32Array, first: number, behind: number): Column {
  let [low, high] = [0, 0];
  for (let place = first; place < behind; place++) {
    low = Math.min(low, samples[place]!);
    high = Math.max(high, samples[place]!);
  }
  return { low, high, bands: bandsOf(samples, Math.min(samples.length, Math.max(behind, WINDOW))) };
}

function numbers(triple: string): number[] {
  return triple.trim().split(/\s+/).map(Number);
}

/** Red, green, blue and opacity between three colours, of which the first is invisible. */
function shade([faint, middle, strong]: number[][], level: number): number[] {
  const [from, to, part] = level < 0.5 ? [faint!, middle!, 2 * level] : [middle!, strong!, 2 * level - 1];
  const mixed = from.map((value, place) => value + (to[place]! - value) * part);
  return [...mixed, 255 * Math.min(1, 1.6 * level)];
}
