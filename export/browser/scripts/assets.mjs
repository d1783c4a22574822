// What the page serves besides its own code: LiteRT's WebAssembly and the ready models, copied
// into public/, with models/index.json, the list that the model picker reads.
import { cp, mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const from = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));

await rm(from('public/wasm'), { recursive: true, force: true });
await rm(from('public/models'), { recursive: true, force: true });
await mkdir(from('public/wasm'), { recursive: true });
await mkdir(from('public/models'), { recursive: true });

// The plain build, and the one for browsers without relaxed SIMD; a browser loads one of them.
for (const name of ['litert_wasm_internal', 'litert_wasm_compat_internal']) {
  for (const suffix of ['js', 'wasm']) {
    const file = `${name}.${suffix}`;
    await cp(from(`node_modules/@litertjs/core/wasm/${file}`), from(`public/wasm/${file}`));
  }
}

const ready = from('../models');
const models = [];
// English first: the first of the list is the one that the page opens with.
const names = (await readdir(ready)).filter((name) => name.endsWith('.tflite')).sort().reverse();
for (const file of names) {
  await cp(`${ready}/${file}`, from(`public/models/${file}`));
  const { size } = await stat(`${ready}/${file}`);
  models.push({ name: file.replace(/\.tflite$/, ''), file, bytes: size });
}
await writeFile(from('public/models/index.json'), `${JSON.stringify(models, null, 1)}\n`);
