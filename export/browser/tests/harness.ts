/** The modules of the client in Chromium, as Vite serves them. */

import { fileURLToPath } from 'node:url';
import { createServer } from 'vite';
import { browse } from './site';

/** A page whose `window.client` is tests/harness.html's; `at` is the address of a file of export/. */
export async function harness(flags: string[] = []) {
  const root = fileURLToPath(new URL('..', import.meta.url));
  const server = await createServer({ root, server: { host: '127.0.0.1', port: 0, hmr: false }, logLevel: 'error' });
  await server.listen();
  const { port } = server.httpServer!.address() as { port: number };
  const url = `http://127.0.0.1:${port}/`;
  const { context, wrong } = await browse(url, flags);
  const page = context.pages()[0]!;
  await page.goto(`${url}tests/harness.html`);
  await page.waitForFunction('window.client');
  const close = async () => {
    await context.close();
    await server.close();
  };
  const at = (path: string) => `/@fs${fileURLToPath(new URL(`../../${path}`, import.meta.url))}`;
  return { page, wrong, at, close };
}
