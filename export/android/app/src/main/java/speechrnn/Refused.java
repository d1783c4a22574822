package speechrnn;

/** What is wrong, in one line: what, got, expected. */
public final class Refused extends Exception {
  private static final long serialVersionUID = 1L;

  public Refused(String message) {
    super(message);
  }
}
