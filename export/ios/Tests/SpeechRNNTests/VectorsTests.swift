import XCTest

@testable import SpeechRNN

/// Against export/vectors. What the model answers to each window is read from there.
final class VectorsTests: XCTestCase {
  let folder = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appendingPathComponent("vectors")

  func testEventsAreThoseOfTheVectors() throws {
    let content = try Data(contentsOf: folder.appendingPathComponent("vectors.json"))
    let document = try JSONSerialization.jsonObject(with: content) as! [String: Any]
    let models = document["models"] as! [String: [String: Any]]
    var streams = 0
    for vector in document["vectors"] as! [[String: Any]] {
      let name = models[vector["model"] as! String]!["file"] as! String
      let file = try ModelFile(content: Data(contentsOf: folder.appendingPathComponent(name)))
      guard let expected = vector["events"] as? [[String: Any]],
        let lie = vector["windows"] as? [String: Double]
      else { continue }
      streams += 1
      XCTAssertEqual(file.windowS, lie["window_s"]!)
      XCTAssertEqual(file.hopS, lie["hop_s"]!, accuracy: 1e-9)
      let answers = (vector["answers"] as! [[NSNumber]]).map { $0.map(\.floatValue) }
      let samples = try waveform(vector["sound"] as! String)
      var windows = Windows(model: file)
      var commands = Commands(model: file, threshold: vector["threshold"] as! Double)
      var heard = 0
      var events: [Commands.Event] = []
      for first in stride(from: 0, to: samples.count, by: 1000) {
        let chunk = Array(samples[first..<min(first + 1000, samples.count)])
        for window in windows.feed(chunk) {
          let start = (Double(heard) * file.hopS * Double(file.sampleRateHz))
            .rounded(.toNearestOrEven)
          XCTAssertEqual(window, Array(samples[Int(start)..<Int(start) + window.count]))
          if let event = commands.hear(answers[heard]) { events.append(event) }
          heard += 1
        }
      }
      XCTAssertEqual(heard, answers.count)
      XCTAssertEqual(events.map(\.text), expected.map { $0["text"] as! String })
      for (event, other) in zip(events, expected) {
        XCTAssertEqual(event.timeS, other["time_s"] as! Double, accuracy: 1e-5)
        XCTAssertEqual(event.confidence, other["confidence"] as! Double, accuracy: 1e-5)
      }
    }
    XCTAssertGreaterThanOrEqual(streams, 3)
  }

  func testDamagedFilesAreRefused() throws {
    let content = try Data(contentsOf: folder.appendingPathComponent("tones.tflite"))
    XCTAssertThrowsError(try ModelFile(content: Data()))
    XCTAssertThrowsError(try ModelFile(content: content.prefix(content.count / 2)))
    var edited = content
    edited[5000] ^= 1
    XCTAssertThrowsError(try ModelFile(content: edited))
  }

  /// Of a WAV file whose header is the shortest, as the vectors' are.
  func waveform(_ name: String) throws -> [Float] {
    let bytes = [UInt8](try Data(contentsOf: folder.appendingPathComponent(name)))
    return stride(from: 44, to: bytes.count - 1, by: 2).map {
      Float(Int16(bitPattern: UInt16(bytes[$0]) | UInt16(bytes[$0 + 1]) << 8)) / 32768
    }
  }
}
