import { defineConfig } from 'vitest/config';

export default defineConfig({
  base: './', // the page may lie in any folder of a site
  build: {
    target: 'es2022',
    rollupOptions: {
      output: {
        // Names without hashes: the service worker asks the network first, so nothing gets stale.
        entryFileNames: 'assets/page.js',
        chunkFileNames: 'assets/[name].js',
        assetFileNames: 'assets/[name][extname]',
      },
    },
  },
  server: { fs: { strict: false } },
  test: { include: ['tests/*.test.ts'], testTimeout: 60_000, hookTimeout: 60_000, fileParallelism: false },
});
