package speechrnn.app

import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.tensorflow.lite.InterpreterApi
import speechrnn.ModelFile

/** Waveform -> probabilities, one for each label. One thread at a time. */
class Recognizer(val file: ModelFile) : AutoCloseable {
    // LiteRT reads the model where it lies: a direct buffer, which outlives the interpreter.
    private val model = direct(file.model.size).put(file.model)
    private val interpreter = InterpreterApi.create(model, InterpreterApi.Options())
    private var length = 0

    fun answer(waveform: FloatArray): FloatArray {
        if (waveform.size != length) {
            interpreter.resizeInput(0, intArrayOf(1, waveform.size))
            interpreter.allocateTensors()
            length = waveform.size
        }
        val answer = arrayOf(FloatArray(file.labels.size))
        interpreter.run(arrayOf(waveform), answer)
        return answer[0]
    }

    override fun close() = interpreter.close()

    private fun direct(size: Int) = ByteBuffer.allocateDirect(size).order(ByteOrder.nativeOrder())
}
