// What comes from the microphone, handed on in blocks of about 20 ms.
class Capture extends AudioWorkletProcessor {
  block = new Float32Array(Math.ceil(sampleRate / 50 / 128) * 128);
  filled = 0;

  process([channels]) {
    const quantum = channels?.[0];
    if (!quantum) return true;
    this.block.set(quantum, this.filled);
    this.filled += quantum.length;
    if (this.filled === this.block.length) {
      this.port.postMessage(this.block);
      this.filled = 0;
    }
    return true;
  }
}

registerProcessor('capture', Capture);
