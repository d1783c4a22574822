import SpeechRNN
import SwiftUI

/// SwiftUI has something else of this name.
typealias Spoken = SpeechRNN.Commands

@main
struct CommandsApp: App {
  var body: some Scene {
    WindowGroup { HeardView() }
  }
}

/// Listens as long as it is seen, and shows what it heard.
struct HeardView: View {
  /// For a file for which none was picked: else everything is taken for a command.
  static let usualThreshold = 0.9

  @State private var message = ""
  @State private var events: [Spoken.Event] = []
  @State private var listener: Listener?
  @Environment(\.scenePhase) private var phase

  var body: some View {
    VStack(alignment: .leading) {
      Text(message)
      List(events.indices, id: \.self) { n in
        Text(
          "\(events[n].timeS, specifier: "%.1f") s  \(events[n].text)  "
            + "\(events[n].confidence, specifier: "%.2f")")
      }
    }
    .padding()
    .onChange(of: phase) { phase in phase == .active ? listen() : stop() }
    .onAppear(perform: listen)
  }

  private func listen() {
    guard listener == nil else { return }
    guard let path = Bundle.main.path(forResource: "commands", ofType: "tflite") else {
      message = "commands.tflite: is not in the bundle of the app"
      return
    }
    do {
      let recognizer = try Recognizer(path: path)
      let picked = recognizer.file.threshold
      let listener = Listener(
        recognizer: recognizer, threshold: picked > 0 ? picked : HeardView.usualThreshold)
      let known = recognizer.file.labels.filter(Spoken.isCommand).joined(separator: ", ")
      message = "Say one of: \(known)"
      listener.start(heard: { events.insert($0, at: 0) }, failed: { message = $0 })
      self.listener = listener
    } catch {
      message = "commands.tflite: \(error)"
    }
  }

  private func stop() {
    listener?.stop()
    listener = nil
  }
}
