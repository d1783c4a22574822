package speechrnn;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;

/** A .tflite of speechrnn: the flatbuffer, and what the file says about itself. */
public final class ModelFile {
  private static final String FORMAT = "speechrnn-tflite";
  private static final int FORMAT_VERSION = 1;

  /** The flatbuffer, which LiteRT takes. */
  public final byte[] model;

  public final List<String> labels;
  public final int sampleRateHz;
  public final int minSamples;

  /** An answer of less confidence is none; 0 where none was picked. */
  public final double threshold;

  /** Whether it answers with sequences, which this client does not read. */
  public final boolean ofSequences;

  /** Length of a window: as long as the longest recordings that it learnt from. */
  public final double windowS;

  /** From one window to the next. */
  public final double hopS;

  private ModelFile(byte[] model, List<String> labels, Map<?, ?> about) throws Refused {
    this.model = model;
    this.labels = Collections.unmodifiableList(labels);
    this.sampleRateHz = (int) number(mapping(about, "features"), "sample_rate_hz");
    this.minSamples = (int) number(about, "min_samples");
    Object decision = about.get("decision");
    boolean decided = decision instanceof Map && ((Map<?, ?>) decision).containsKey("threshold");
    this.threshold = decided ? number((Map<?, ?>) decision, "threshold") : 0;
    this.ofSequences = "log_probs".equals(mapping(about, "output").get("name"));
    this.windowS = longestClipS(about.get("training"));
    this.hopS = Math.min(0.2, windowS / 5);
  }

  /** A second where it is not said. */
  private static double longestClipS(Object training) {
    Object clip = training instanceof Map ? ((Map<?, ?>) training).get("clip_s") : null;
    if (!(clip instanceof List) || ((List<?>) clip).size() != 2) return 1;
    Object low = ((List<?>) clip).get(0);
    Object high = ((List<?>) clip).get(1);
    boolean usable =
        low instanceof Double
            && high instanceof Double
            && 0 < (Double) low
            && (Double) low <= (Double) high
            && (Double) high <= 10;
    return usable ? (Double) high : 1;
  }

  /** Checks that a file is ours, whole, and of a format that is known here. */
  public static ModelFile read(byte[] content) throws Refused {
    if (content.length < 8
        || !new String(content, 4, 4, StandardCharsets.US_ASCII).equals("TFL3")) {
      throw new Refused("is no TFLite model; expected a .tflite from speechrnn export");
    }
    byte[] entry;
    try {
      entry = zipEntry(content, "speechrnn.json");
    } catch (IndexOutOfBoundsException | IllegalArgumentException error) {
      entry = null;
    }
    if (entry == null) {
      throw new Refused("carries no metadata of speechrnn; was it cut short?");
    }
    Object document = Json.parse(new String(entry, StandardCharsets.UTF_8));
    if (!(document instanceof Map)) throw new Refused("speechrnn.json in it is damaged");
    Map<?, ?> about = (Map<?, ?>) document;
    if (!FORMAT.equals(about.get("format"))
        || number(about, "format_version") != FORMAT_VERSION) {
      throw new Refused(
          "is of format " + about.get("format") + " " + about.get("format_version")
              + ", expected " + FORMAT + " " + FORMAT_VERSION);
    }
    double bytes = number(about, "model_bytes");
    if (!(bytes > 0 && bytes <= content.length)
        || !sha256(content, (int) bytes).equals(about.get("model_sha256"))) {
      throw new Refused("was changed after it was exported; export it again");
    }
    List<String> labels = new ArrayList<>();
    if (about.get("labels") instanceof List) {
      for (Object label : (List<?>) about.get("labels")) labels.add(String.valueOf(label));
    }
    return new ModelFile(Arrays.copyOf(content, (int) bytes), labels, about);
  }

  private static double number(Map<?, ?> about, String key) throws Refused {
    Object value = about.get(key);
    if (value instanceof Double) return (Double) value;
    throw new Refused("speechrnn.json in it lacks the number " + key);
  }

  private static Map<?, ?> mapping(Map<?, ?> about, String key) throws Refused {
    Object value = about.get(key);
    if (value instanceof Map) return (Map<?, ?>) value;
    throw new Refused("speechrnn.json in it lacks " + key);
  }

  /** An entry that is stored as it is, of the zip behind the flatbuffer; null where none is. */
  private static byte[] zipEntry(byte[] content, String name) {
    ByteBuffer bytes = ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN);
    int end = content.length - 22;
    while (end >= 0 && bytes.getInt(end) != 0x06054b50) end--;
    if (end < 0) return null;
    int at = bytes.getInt(end + 16);
    for (int left = bytes.getShort(end + 10); left > 0; left--) {
      int nameSize = bytes.getShort(at + 28);
      boolean stored = bytes.getShort(at + 10) == 0;
      if (stored && new String(content, at + 46, nameSize, StandardCharsets.UTF_8).equals(name)) {
        int header = bytes.getInt(at + 42);
        int first = header + 30 + bytes.getShort(header + 26) + bytes.getShort(header + 28);
        return Arrays.copyOfRange(content, first, first + bytes.getInt(at + 24));
      }
      at += 46 + nameSize + bytes.getShort(at + 30) + bytes.getShort(at + 32);
    }
    return null;
  }

  private static String sha256(byte[] content, int size) {
    try {
      MessageDigest digest = MessageDigest.getInstance("SHA-256");
      digest.update(content, 0, size);
      StringBuilder text = new StringBuilder();
      for (byte one : digest.digest()) text.append(String.format("%02x", one));
      return text.toString();
    } catch (NoSuchAlgorithmException error) {
      throw new IllegalStateException(error); // every Java has it
    }
  }
}
