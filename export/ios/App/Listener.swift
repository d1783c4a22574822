import AVFoundation
import SpeechRNN

/// Hears commands with the microphone; its functions are called on the main thread.
final class Listener {
  private let recognizer: Recognizer
  private let engine = AVAudioEngine()
  private let worker = DispatchQueue(label: "listening")
  private var windows: Windows
  private var commands: Commands

  init(recognizer: Recognizer, threshold: Double) {
    self.recognizer = recognizer
    windows = Windows(model: recognizer.file)
    commands = Commands(model: recognizer.file, threshold: threshold)
  }

  /// Asks for the microphone, and listens until `stop`.
  func start(heard: @escaping (Commands.Event) -> Void, failed: @escaping (String) -> Void) {
    AVAudioSession.sharedInstance().requestRecordPermission { granted in
      DispatchQueue.main.async {
        guard granted else { return failed("The microphone is not allowed; allow it in Settings.") }
        do {
          try self.open(heard: heard, failed: failed)
        } catch {
          failed("The microphone cannot be opened: \(error)")
        }
      }
    }
  }

  func stop() {
    engine.inputNode.removeTap(onBus: 0)
    engine.stop()
  }

  private func open(
    heard: @escaping (Commands.Event) -> Void, failed: @escaping (String) -> Void
  ) throws {
    // Measurement: without the gain control and noise suppression of telephony.
    try AVAudioSession.sharedInstance().setCategory(.record, mode: .measurement)
    try AVAudioSession.sharedInstance().setActive(true)
    let given = engine.inputNode.outputFormat(forBus: 0)
    let rateHz = Double(recognizer.file.sampleRateHz)
    guard
      let wanted = AVAudioFormat(
        commonFormat: .pcmFormatFloat32, sampleRate: rateHz, channels: 1, interleaved: false),
      let converter = AVAudioConverter(from: given, to: wanted)
    else {
      throw Refused("cannot be converted to \(rateHz) Hz")
    }
    engine.inputNode.installTap(onBus: 0, bufferSize: 1024, format: given) { buffer, _ in
      let samples = Listener.converted(buffer, by: converter, to: wanted)
      self.worker.async {
        do {
          for window in self.windows.feed(samples) {
            if let event = self.commands.hear(try self.recognizer.answer(window)) {
              DispatchQueue.main.async { heard(event) }
            }
          }
        } catch {
          DispatchQueue.main.async { failed("\(error)") }
        }
      }
    }
    try engine.start()
  }

  /// The samples at the model's rate; the converter keeps its filter's state from call to call.
  private static func converted(
    _ buffer: AVAudioPCMBuffer, by converter: AVAudioConverter, to format: AVAudioFormat
  ) -> [Float] {
    let ratio = format.sampleRate / buffer.format.sampleRate
    let capacity = AVAudioFrameCount(Double(buffer.frameLength) * ratio) + 16
    guard let output = AVAudioPCMBuffer(pcmFormat: format, frameCapacity: capacity) else {
      return []
    }
    var given = false
    converter.convert(to: output, error: nil) { _, status in
      status.pointee = given ? .noDataNow : .haveData
      defer { given = true }
      return given ? nil : buffer
    }
    guard let channel = output.floatChannelData?[0] else { return [] }
    return Array(UnsafeBufferPointer(start: channel, count: Int(output.frameLength)))
  }
}
