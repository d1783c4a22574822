package speechrnn;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * JSON as Map, List, String, Double, Boolean and null. Android has org.json, which plain Java has
 * not: this is tested where there is no Android.
 */
public final class Json {
  private final String text;
  private int at;

  private Json(String text) {
    this.text = text;
  }

  /** The value of a whole document. */
  public static Object parse(String text) throws Refused {
    Json parser = new Json(text);
    Object value = parser.value(0);
    if (parser.peek() != 0) throw parser.wrong();
    return value;
  }

  private Refused wrong() {
    return new Refused("is no JSON at character " + at);
  }

  private char peek() {
    while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) at++;
    return at < text.length() ? text.charAt(at) : 0;
  }

  private boolean take(String word) {
    if (peek() == 0 || !text.startsWith(word, at)) return false;
    at += word.length();
    return true;
  }

  private Object value(int depth) throws Refused {
    if (depth > 100) throw wrong();
    if (take("{")) {
      Map<String, Object> mapping = new LinkedHashMap<>();
      if (take("}")) return mapping;
      do {
        String key = string();
        if (!take(":")) throw wrong();
        mapping.put(key, value(depth + 1));
      } while (take(","));
      if (!take("}")) throw wrong();
      return mapping;
    }
    if (take("[")) {
      List<Object> list = new ArrayList<>();
      if (take("]")) return list;
      do list.add(value(depth + 1));
      while (take(","));
      if (!take("]")) throw wrong();
      return list;
    }
    if (peek() == '"') return string();
    if (take("true")) return true;
    if (take("false")) return false;
    if (take("null")) return null;
    int start = at;
    while (at < text.length() && "+-.0123456789eE".indexOf(text.charAt(at)) >= 0) at++;
    try {
      return Double.valueOf(text.substring(start, at));
    } catch (NumberFormatException error) {
      throw wrong();
    }
  }

  private String string() throws Refused {
    if (!take("\"")) throw wrong();
    StringBuilder value = new StringBuilder();
    while (at < text.length() && text.charAt(at) != '"') {
      char next = text.charAt(at++);
      if (next != '\\') {
        value.append(next);
        continue;
      }
      char escape = at < text.length() ? text.charAt(at++) : 0;
      int place = "bfnrt\"\\/".indexOf(escape);
      if (escape == 'u' && at + 4 <= text.length()) {
        value.append((char) Integer.parseInt(text.substring(at, at + 4), 16));
        at += 4;
      } else if (place >= 0) {
        value.append("\b\f\n\r\t\"\\/".charAt(place));
      } else {
        throw wrong();
      }
    }
    if (at >= text.length()) throw wrong();
    at++;
    return value.toString();
  }
}
