package speechrnn;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;

/** A command where the mean of the last answers reaches the threshold; then a rest. */
public final class Commands {
  private static final int SMOOTHING = 2;

  /** A command, the middle of the window that raised it, and the confidence. */
  public static final class Event {
    public final String text;
    public final double timeS;
    public final double confidence;

    Event(String text, double timeS, double confidence) {
      this.text = text;
      this.timeS = timeS;
      this.confidence = confidence;
    }
  }

  private final List<String> labels;
  private final double windowS;
  private final double hopS;
  private final double threshold;
  private final Deque<float[]> recent = new ArrayDeque<>();
  private long window;
  private long rest;

  public Commands(ModelFile model, double threshold) {
    this.labels = model.labels;
    this.windowS = model.windowS;
    this.hopS = model.hopS;
    this.threshold = threshold;
  }

  /** The event that the answer to the next window raises, or null. */
  public Event hear(float[] probabilities) {
    recent.addLast(probabilities);
    if (recent.size() > SMOOTHING) recent.removeFirst();
    int best = 0;
    double confidence = Double.NEGATIVE_INFINITY;
    for (int k = 0; k < probabilities.length; k++) {
      double mean = 0;
      for (float[] answer : recent) mean += answer[k];
      mean /= recent.size();
      if (mean > confidence) {
        best = k;
        confidence = mean;
      }
    }
    long now = window++;
    if (now < rest || !(confidence >= threshold) || !isCommand(labels.get(best))) return null;
    rest = now + Math.max(1, (long) Math.ceil((windowS + hopS) / hopS - 1e-9));
    return new Event(labels.get(best), now * hopS + windowS / 2, confidence);
  }

  /** Labels such as _silence_ and _unknown_ are none. */
  public static boolean isCommand(String label) {
    return !(label.startsWith("_") && label.endsWith("_"));
  }
}
