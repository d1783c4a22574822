package speechrnn;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/**
 * Holds the plain Java of the app against export/vectors; run by export/check_clients.py.
 *
 * <p>There is no LiteRT for plain Java here: what the model answers to each window is read from the
 * vectors. That the windows hold the right samples, and that the events are raised from these
 * answers, is what is tested, and the reading of models.
 */
public final class CheckVectors {
  private static final double TOLERANCE = 1e-5;
  private static int checks;

  public static void main(String[] arguments) throws IOException, Refused {
    Path folder = Paths.get(arguments[0]);
    Map<?, ?> document = map(Json.parse(text(folder.resolve("vectors.json"))));
    Map<?, ?> models = map(document.get("models"));
    int streams = 0;
    for (Object each : list(document.get("vectors"))) {
      Map<?, ?> vector = map(each);
      Path path = folder.resolve((String) map(models.get(vector.get("model"))).get("file"));
      byte[] content = Files.readAllBytes(path);
      ModelFile model = ModelFile.read(content);
      checkMetadata(content, model, vector);
      if (vector.containsKey("windows")) {
        checkStream(folder, model, vector);
        streams++;
      }
    }
    checkRefusals(Files.readAllBytes(folder.resolve("tones.tflite")));
    checkJson();
    check(streams >= 3, "at least three streams of windows");
    System.out.println(
        "metadata of " + models.size() + " models, events of " + streams + " streams, "
            + checks + " checks");
  }

  private static void checkMetadata(byte[] content, ModelFile model, Map<?, ?> vector) {
    check(model.model.length < content.length, "the archive is no part of the flatbuffer");
    check(model.sampleRateHz == 16000 || model.sampleRateHz == 8000, "a rate");
    check(model.minSamples > 0 && model.minSamples < model.sampleRateHz, "fewest samples");
    String name = (String) vector.get("model");
    boolean picked = name.equals("tones") || name.equals("tones-windows");
    check(model.threshold == (picked ? 0.6 : 0), "the threshold of " + name);
    check(model.ofSequences == name.equals("tones-sequences"), "what " + name + " answers");
    if (!model.ofSequences) {
      List<?> probabilities = list(vector.get("probabilities"));
      check(probabilities.size() == model.labels.size(), "a label for each column");
      int best = 0;
      for (int k = 1; k < probabilities.size(); k++) {
        if ((Double) probabilities.get(k) > (Double) probabilities.get(best)) best = k;
      }
      boolean sure = (Double) probabilities.get(best) >= model.threshold;
      check((sure ? model.labels.get(best) : "").equals(vector.get("text")), "the text");
    }
  }

  private static void checkStream(Path folder, ModelFile model, Map<?, ?> vector)
      throws IOException {
    float[] waveform = samples(folder.resolve((String) vector.get("sound")));
    check(waveform.length == ((Double) vector.get("samples")).intValue(), "samples");
    List<?> answers = list(vector.get("answers"));
    List<?> chunks = list(vector.get("chunks"));
    Map<?, ?> lie = map(vector.get("windows"));
    check(model.windowS == (Double) lie.get("window_s"), "the length of a window");
    check(Math.abs(model.hopS - (Double) lie.get("hop_s")) < TOLERANCE, "from one to the next");
    Windows windows = new Windows(model);
    Commands commands = new Commands(model, (Double) vector.get("threshold"));
    List<Commands.Event> events = new ArrayList<>();
    int place = 0;
    int heard = 0;
    for (int n = 0; place < waveform.length; n++) {
      int size = ((Double) chunks.get(n % chunks.size())).intValue();
      float[] chunk = Arrays.copyOfRange(waveform, place, Math.min(place + size, waveform.length));
      place += chunk.length;
      for (float[] window : windows.feed(chunk, chunk.length)) {
        int first = (int) Math.rint(heard * model.hopS * model.sampleRateHz);
        float[] expected = Arrays.copyOfRange(waveform, first, first + window.length);
        check(Arrays.equals(window, expected), "the samples of window " + heard);
        Commands.Event event = commands.hear(floats(list(answers.get(heard++))));
        if (event != null) events.add(event);
      }
    }
    check(heard == answers.size(), "as many windows as answers");
    List<?> expected = list(vector.get("events"));
    check(events.size() == expected.size(), "as many events");
    for (int n = 0; n < events.size(); n++) {
      Map<?, ?> one = map(expected.get(n));
      check(events.get(n).text.equals(one.get("text")), "the event " + one.get("text"));
      check(Math.abs(events.get(n).timeS - (Double) one.get("time_s")) < TOLERANCE, "its time");
      check(
          Math.abs(events.get(n).confidence - (Double) one.get("confidence")) < TOLERANCE,
          "its confidence");
    }
  }

  private static void checkRefusals(byte[] content) {
    refused(new byte[0], "is no TFLite model");
    refused("hello, world".getBytes(StandardCharsets.US_ASCII), "is no TFLite model");
    refused(Arrays.copyOf(content, content.length / 2), "was it cut short?");
    byte[] edited = content.clone();
    edited[5000] ^= 1;
    refused(edited, "was changed");
    refused(replaced(content, "\"format_version\": 1", "\"format_version\": 2"), "expected");
    refused(replaced(content, "\"speechrnn-tflite\"", "\"speechrnn-tflitf\""), "expected");
    refused(replaced(content, "\"format\": \"", "\"format\": ]"), "is no JSON");
  }

  private static void refused(byte[] content, String reason) {
    try {
      ModelFile.read(content);
    } catch (Refused error) {
      check(error.getMessage().contains(reason), error.getMessage() + ", expected: " + reason);
      return;
    }
    check(false, "refused: " + reason);
  }

  private static void checkJson() throws Refused {
    Map<?, ?> value =
        map(Json.parse(" {\"a\": [1, -2.5e3, true, false, null], \"b\\u0041\\n\": {\"\": []}} "));
    check(value.toString().equals("{a=[1.0, -2500.0, true, false, null], bA\n={=[]}}"), "JSON");
  }

  private static byte[] replaced(byte[] content, String before, String after) {
    String text = new String(content, StandardCharsets.ISO_8859_1);
    return text.replace(before, after).getBytes(StandardCharsets.ISO_8859_1);
  }

  /** Of a WAV file whose header is the shortest, as the vectors' are. */
  private static float[] samples(Path path) throws IOException {
    byte[] content = Files.readAllBytes(path);
    float[] samples = new float[(content.length - 44) / 2];
    for (int n = 0; n < samples.length; n++) {
      int low = content[44 + 2 * n] & 0xff;
      samples[n] = (short) (content[45 + 2 * n] << 8 | low) / 32768f;
    }
    return samples;
  }

  private static float[] floats(List<?> numbers) {
    float[] values = new float[numbers.size()];
    for (int n = 0; n < values.length; n++) values[n] = ((Double) numbers.get(n)).floatValue();
    return values;
  }

  private static String text(Path path) throws IOException {
    return new String(Files.readAllBytes(path), StandardCharsets.UTF_8);
  }

  private static Map<?, ?> map(Object value) {
    return (Map<?, ?>) value;
  }

  private static List<?> list(Object value) {
    return (List<?>) value;
  }

  private static void check(boolean holds, String what) {
    checks++;
    if (!holds) throw new AssertionError(what);
  }
}
