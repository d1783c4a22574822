import CryptoKit
import Foundation

/// What is wrong, in one line: what, got, expected.
public struct Refused: Error, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}

/// A .tflite of speechrnn: the flatbuffer, and what the file says about itself.
public struct ModelFile {
  static let format = "speechrnn-tflite"
  static let formatVersion = 1

  /// The flatbuffer, which LiteRT takes.
  public let model: Data
  public let labels: [String]
  public let sampleRateHz: Int
  public let minSamples: Int
  /// An answer of less confidence is none; 0 where none was picked.
  public let threshold: Double
  /// Whether it answers with sequences, which this client does not read.
  public let ofSequences: Bool
  /// Length of a window: as long as the longest recordings that it learnt from.
  public let windowS: Double
  /// From one window to the next.
  public let hopS: Double

  /// Checks that a file is ours, whole, and of a format that is known here.
  public init(content: Data) throws {
    let bytes = [UInt8](content)
    guard bytes.count >= 8, Array(bytes[4..<8]) == Array("TFL3".utf8) else {
      throw Refused("is no TFLite model; expected a .tflite from speechrnn export")
    }
    guard let entry = ModelFile.zipEntry(bytes, named: "speechrnn.json") else {
      throw Refused("carries no metadata of speechrnn; was it cut short?")
    }
    guard let about = try? JSONSerialization.jsonObject(with: Data(entry)) as? [String: Any] else {
      throw Refused("speechrnn.json in it is damaged")
    }
    guard about["format"] as? String == ModelFile.format,
      about["format_version"] as? Int == ModelFile.formatVersion
    else {
      let got = "\(about["format"] ?? "") \(about["format_version"] ?? "")"
      throw Refused("is of format \(got), expected \(ModelFile.format) \(ModelFile.formatVersion)")
    }
    guard let size = about["model_bytes"] as? Int, size > 0, size <= bytes.count,
      SHA256.hash(data: bytes[..<size]).map({ String(format: "%02x", $0) }).joined()
        == about["model_sha256"] as? String
    else {
      throw Refused("was changed after it was exported; export it again")
    }
    guard let labels = about["labels"] as? [String],
      let features = about["features"] as? [String: Any],
      let rateHz = features["sample_rate_hz"] as? Int,
      let minSamples = about["min_samples"] as? Int,
      let output = about["output"] as? [String: Any]
    else {
      throw Refused("speechrnn.json in it is not what an export holds")
    }
    self.model = Data(bytes[..<size])
    self.labels = labels
    self.sampleRateHz = rateHz
    self.minSamples = minSamples
    self.threshold = (about["decision"] as? [String: Any])?["threshold"] as? Double ?? 0
    self.ofSequences = output["name"] as? String == "log_probs"
    self.windowS = ModelFile.longestClipS(about["training"] as? [String: Any])
    self.hopS = min(0.2, windowS / 5)
  }

  /// A second where it is not said.
  private static func longestClipS(_ training: [String: Any]?) -> Double {
    guard let clip = training?["clip_s"] as? [Double], clip.count == 2,
      0 < clip[0], clip[0] <= clip[1], clip[1] <= 10
    else { return 1 }
    return clip[1]
  }

  /// An entry that is stored as it is, of the zip behind the flatbuffer; nil where none is.
  static func zipEntry(_ bytes: [UInt8], named name: String) -> ArraySlice<UInt8>? {
    func number(_ at: Int, _ count: Int) -> Int? {
      guard at >= 0, at + count <= bytes.count else { return nil }
      return bytes[at..<at + count].reversed().reduce(0) { $0 << 8 | Int($1) }
    }
    var end = bytes.count - 22
    while end >= 0, number(end, 4) != 0x0605_4b50 { end -= 1 }
    guard end >= 0, var at = number(end + 16, 4), let count = number(end + 10, 2) else { return nil }
    for _ in 0..<count {
      guard let method = number(at + 10, 2), let size = number(at + 24, 4),
        let nameSize = number(at + 28, 2), let extra = number(at + 30, 2),
        let comment = number(at + 32, 2), let header = number(at + 42, 4),
        at + 46 + nameSize <= bytes.count
      else { return nil }
      if method == 0, Array(bytes[at + 46..<at + 46 + nameSize]) == Array(name.utf8) {
        guard let skipped = number(header + 26, 2), let more = number(header + 28, 2) else {
          return nil
        }
        let first = header + 30 + skipped + more
        return first + size <= bytes.count ? bytes[first..<first + size] : nil
      }
      at += 46 + nameSize + extra + comment
    }
    return nil
  }
}
