package speechrnn.app

import android.Manifest
import android.content.pm.PackageManager
import android.os.Bundle
import androidx.activity.ComponentActivity
import androidx.activity.compose.setContent
import androidx.activity.result.contract.ActivityResultContracts
import androidx.compose.foundation.layout.Column
import androidx.compose.foundation.layout.fillMaxSize
import androidx.compose.foundation.layout.padding
import androidx.compose.foundation.lazy.LazyColumn
import androidx.compose.foundation.lazy.items
import androidx.compose.material3.MaterialTheme
import androidx.compose.material3.Surface
import androidx.compose.material3.Text
import androidx.compose.runtime.Composable
import androidx.compose.runtime.getValue
import androidx.compose.runtime.mutableStateListOf
import androidx.compose.runtime.mutableStateOf
import androidx.compose.runtime.setValue
import androidx.compose.ui.Modifier
import androidx.compose.ui.unit.dp
import java.io.IOException
import speechrnn.Commands
import speechrnn.ModelFile
import speechrnn.Refused

/** Listens as long as it is seen, and shows what it heard. */
class MainActivity : ComponentActivity() {
    private var message by mutableStateOf("")
    private val events = mutableStateListOf<Commands.Event>()
    private var recognizer: Recognizer? = null
    private var listening: Listening? = null

    private val ask =
        registerForActivityResult(ActivityResultContracts.RequestPermission()) { granted ->
            if (granted) listen() else message = "The microphone is not allowed; allow it in Settings."
        }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        recognizer = openModel()
        setContent { MaterialTheme { Surface { Heard(message, events) } } }
    }

    override fun onStart() {
        super.onStart()
        if (recognizer == null) return
        val permission = Manifest.permission.RECORD_AUDIO
        if (checkSelfPermission(permission) == PackageManager.PERMISSION_GRANTED) listen()
        else ask.launch(permission)
    }

    override fun onStop() {
        super.onStop()
        listening?.close()
        listening = null
    }

    override fun onDestroy() {
        super.onDestroy()
        recognizer?.close()
    }

    private fun openModel(): Recognizer? =
        try {
            val file = ModelFile.read(assets.open(MODEL).use { it.readBytes() })
            if (file.ofSequences) throw Refused("answers with sequences; expected a classifier")
            Recognizer(file)
        } catch (error: IOException) {
            message = "$MODEL: is not among the assets of the app"
            null
        } catch (error: Refused) {
            message = "$MODEL: ${error.message}"
            null
        }

    private fun listen() {
        val recognizer = recognizer ?: return
        if (listening != null) return
        val threshold = recognizer.file.threshold.takeIf { it > 0 } ?: USUAL_THRESHOLD
        message = "Say one of: ${recognizer.file.labels.filter(Commands::isCommand).joinToString()}"
        listening =
            Listening(
                recognizer,
                threshold,
                heard = { event -> runOnUiThread { events.add(0, event) } },
                failed = { reason -> runOnUiThread { message = reason } },
            )
    }

    private companion object {
        const val MODEL = "commands.tflite"

        /** For a file for which none was picked: else everything is taken for a command. */
        const val USUAL_THRESHOLD = 0.9
    }
}

@Composable
private fun Heard(message: String, events: List<Commands.Event>) {
    Column(Modifier.fillMaxSize().padding(24.dp)) {
        Text(message, style = MaterialTheme.typography.bodyLarge)
        LazyColumn(Modifier.padding(top = 16.dp)) {
            items(events) { event ->
                Text(
                    "%6.1f s   %s   %.2f".format(event.timeS, event.text, event.confidence),
                    style = MaterialTheme.typography.titleLarge,
                )
            }
        }
    }
}
