// Keeps what the page has loaded, so that it opens without a network. The network is asked first:
// what is served now is never hidden by what was kept.
const KEPT = 'speechrnn';

self.addEventListener('install', (event) => {
  const shell = ['./', 'assets/page.js', 'assets/index.css', 'capture.js', 'icon.svg'];
  event.waitUntil(caches.open(KEPT).then((cache) => cache.addAll(shell)).then(() => self.skipWaiting()));
});

self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));

self.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method !== 'GET' || new URL(request.url).origin !== location.origin) return;
  event.respondWith(answer(request, event));
});

async function answer(request, event) {
  const cache = await caches.open(KEPT);
  try {
    const response = await fetch(request);
    if (response.ok) event.waitUntil(cache.put(request, response.clone()));
    return response;
  } catch (error) {
    const kept = await cache.match(request, { ignoreVary: true });
    if (kept) return kept;
    throw error;
  }
}
