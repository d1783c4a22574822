package speechrnn;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Overlapping windows of sound that comes in pieces of any size. */
public final class Windows {
  public static final double WINDOW_S = 1.0;
  public static final double HOP_S = 0.2;

  private final int rateHz;
  private final int length;
  private float[] waiting = new float[0];
  private long dropped;
  private long count;

  public Windows(int rateHz) {
    this.rateHz = rateHz;
    this.length = (int) Math.rint(WINDOW_S * rateHz);
  }

  /** The windows that these samples fill, a second each. */
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
    return (int) ((long) Math.rint(count * HOP_S * rateHz) - dropped);
  }
}
