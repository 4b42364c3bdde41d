// Makes three thumbnails of one picture with sharp, `rounds` times over, and leaves the last ones in `directory`.
// usage: node thumbnails.mjs <picture> <rounds> <directory> each|once <quality> <edge> [<edge> ...]
// each: a decode for each size, as sharp is used. once: one decode, and the sizes from the raw pixels of the first one.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";

const [picture, rounds, directory, decodes, quality, ...edges] = process.argv.slice(2);
sharp.cache(false); // each round must decode: a service never sees the same upload twice
sharp.concurrency(1); // its default with glibc; stated, since CPU time is compared
const data = await readFile(picture);
const box = (edge) => ({ width: edge, height: edge, fit: "inside", withoutEnlargement: true });
// Baseline with standard tables, 4:2:0, as ours. sharp's default, optimised tables, costs it 7 % more.
const jpeg = { quality: Number(quality), chromaSubsampling: "4:2:0", optimiseCoding: false };

async function largestOnce() {
  const upright = sharp(data).autoOrient().resize(box(Number(edges[0]))).removeAlpha().toColourspace("srgb");
  const { data: pixels, info } = await upright.raw().toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  return () => sharp(pixels, { raw: { width, height, channels } });
}

let thumbnails = new Map();
for (let round = 0; round < Number(rounds); round += 1) {
  thumbnails = new Map();
  const open = decodes === "once" ? await largestOnce() : () => sharp(data).autoOrient();
  for (const edge of edges.map(Number)) {
    thumbnails.set(edge, await open().resize(box(edge)).jpeg(jpeg).toBuffer());
  }
}
for (const [edge, bytes] of thumbnails) await writeFile(join(directory, `${edge}.jpg`), bytes);
const status = await readFile("/proc/self/status", "utf8");
await writeFile(join(directory, "peak_rss_kib"), /VmHWM:\s*(\d+)/.exec(status)[1]);
