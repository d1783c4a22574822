package speechrnn.app

import android.annotation.SuppressLint
import android.media.AudioFormat
import android.media.AudioRecord
import android.media.MediaRecorder
import kotlin.concurrent.thread
import speechrnn.Commands
import speechrnn.Refused
import speechrnn.Windows

/** Hears commands with the microphone, on a thread of its own, until it is closed. */
class Listening(
    private val recognizer: Recognizer,
    private val threshold: Double,
    private val heard: (Commands.Event) -> Unit,
    private val failed: (String) -> Unit,
) : AutoCloseable {
    @Volatile private var open = true
    private val worker = thread(name = "listening") { listen() }

    private fun listen() {
        try {
            val record = openMicrophone(recognizer.file.sampleRateHz)
            try {
                hear(record)
            } finally {
                record.release()
            }
        } catch (error: Refused) {
            failed(error.message.orEmpty())
        }
    }

    private fun hear(record: AudioRecord) {
        val windows = Windows(recognizer.file)
        val commands = Commands(recognizer.file, threshold)
        val raw = ShortArray(recognizer.file.sampleRateHz / CHUNKS_PER_S)
        val samples = FloatArray(raw.size)
        record.startRecording()
        while (open) {
            val size = record.read(raw, 0, raw.size)
            if (size < 0) throw Refused("the microphone stopped ($size)")
            for (n in 0 until size) samples[n] = raw[n] / 32768f
            for (window in windows.feed(samples, size)) {
                commands.hear(recognizer.answer(window))?.let(heard)
            }
        }
        record.stop()
    }

    /** Also waits until the recogniser is not in use any more. */
    override fun close() {
        open = false
        worker.join()
    }

    private companion object {
        const val CHUNKS_PER_S = 40

        @SuppressLint("MissingPermission") // the activity asks for it first
        fun openMicrophone(rateHz: Int): AudioRecord {
            val (channel, encoding) = AudioFormat.CHANNEL_IN_MONO to AudioFormat.ENCODING_PCM_16BIT
            val least = AudioRecord.getMinBufferSize(rateHz, channel, encoding)
            if (least <= 0) throw Refused("the microphone: cannot be opened at $rateHz Hz")
            // Without the gain control and noise suppression of telephony.
            val source = MediaRecorder.AudioSource.VOICE_RECOGNITION
            val record = AudioRecord(source, rateHz, channel, encoding, maxOf(least, rateHz))
            if (record.state != AudioRecord.STATE_INITIALIZED) {
                record.release()
                throw Refused("the microphone: is in use, or not allowed")
            }
            return record
        }
    }
}
