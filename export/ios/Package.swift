// swift-tools-version: 5.9
import PackageDescription

// What needs no LiteRT: it builds and is tested on a Mac. App/ is what an iPhone needs besides.
let package = Package(
  name: "SpeechRNN",
  platforms: [.iOS(.v15), .macOS(.v12)],
  products: [.library(name: "SpeechRNN", targets: ["SpeechRNN"])],
  targets: [
    .target(name: "SpeechRNN"),
    .testTarget(name: "SpeechRNNTests", dependencies: ["SpeechRNN"]),
  ]
)
