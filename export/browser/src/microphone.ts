/** The microphone, at the model's rate. */

export class MicrophoneError extends Error {}

const HEARD = {
  NotAllowedError: 'The microphone was refused; allow it for this page in the browser, then start again.',
  NotFoundError: 'There is no microphone; connect one, or drop a recording on the page.',
  NotReadableError: 'The microphone cannot be opened; close the program that uses it, then start again.',
  NotSupportedError: 'This browser cannot bring its microphone to the rate of the model; Chromium, Edge and Safari can.',
} as Record<string, string>;

export class Microphone {
  /** Seconds since it was opened of which nothing came: the browser or the system held it. */
  get lostS(): number {
    return Math.max(0, (performance.now() - this.openedMs) / 1000 - this.heardS);
  }

  heardS = 0;
  private readonly openedMs = performance.now();

  private constructor(
    private readonly context: AudioContext,
    private readonly stream: MediaStream,
  ) {}

  /**
   * Opens it; `onSamples` gets float32 blocks at `rateHz`, `onEnd` a line when it went away.
   *
   * Raises: MicrophoneError, a line for the person.
   */
  static async open(
    rateHz: number,
    onSamples: (samples: Float32Array) => void,
    onEnd: (line: string) => void,
  ): Promise<Microphone> {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new MicrophoneError('A microphone needs a secure address; open this page by https or localhost.');
    }
    let stream: MediaStream | undefined;
    let context: AudioContext | undefined;
    try {
      // Nothing may polish the sound: the model learnt from plain recordings.
      const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
      stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
      context = new AudioContext({ sampleRate: rateHz, latencyHint: 'interactive' }); // it resamples
      await context.audioWorklet.addModule(new URL('capture.js', document.baseURI).href);
      const source = context.createMediaStreamSource(stream);
      const capture = new AudioWorkletNode(context, 'capture', {
        numberOfOutputs: 0,
        channelCount: 1,
        channelCountMode: 'explicit', // channels are averaged
      });
      const microphone = new Microphone(context, stream);
      capture.port.onmessage = ({ data }: MessageEvent<Float32Array>) => {
        microphone.heardS += data.length / rateHz;
        onSamples(data);
      };
      stream.getAudioTracks()[0]!.onended = () => onEnd('The microphone was disconnected.');
      source.connect(capture);
      await context.resume();
      return microphone;
    } catch (error) {
      stream?.getTracks().forEach((track) => track.stop());
      await context?.close();
      const { name, message } = error as Error;
      throw new MicrophoneError(HEARD[name] ?? `The microphone cannot be used: ${message}`);
    }
  }

  /** Goes on after the browser held it, where that is allowed. */
  async resume(): Promise<void> {
    if (this.context.state !== 'running') await this.context.resume();
  }

  async close(): Promise<void> {
    this.stream.getTracks().forEach((track) => track.stop());
    await this.context.close();
  }
}
