package speechrnn;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Overlapping windows of sound that comes in pieces of any size. */
public final class Windows {
  private final int rateHz;
  private final double hopS;
  private final int length;
  private float[] waiting = new float[0];
  private long dropped;
  private long count;

  public Windows(ModelFile model) {
    this.rateHz = model.sampleRateHz;
    this.hopS = model.hopS;
    this.length = (int) Math.rint(model.windowS * rateHz);
  }

  /** The windows that these samples fill. */
  public List<float[]> feed(float[] samples, int size) {
    int before = waiting.length;
    waiting = Arrays.copyOf(waiting, before + size);
    System.arraycopy(samples, 0, waiting, before, size);
    List<float[]> windows = new ArrayList<>();
    int start;
    while ((start = start()) + length <= waiting.length) {
      windows.add(Arrays.copyOfRange(waiting, start, start + length));
      count++;
    }
    int done = Math.min(start, waiting.length);
    waiting = Arrays.copyOfRange(waiting, done, waiting.length);
    dropped += done;
    return windows;
  }

  /** The next window's first sample among those that wait; rounding does not add up. */
  private int start() {
    return (int) ((long) Math.rint(count * hopS * rateHz) - dropped);
  }
}
