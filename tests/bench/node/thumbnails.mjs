// Makes three thumbnails of one picture with sharp, `rounds` times over, and leaves the last ones in `directory`.
// usage: node thumbnails.mjs <picture> <rounds> <directory> <quality> <edge> [<edge> ...]
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";

const [picture, rounds, directory, quality, ...edges] = process.argv.slice(2);
sharp.cache(false); // each round must decode: a service never sees the same upload twice
const data = await readFile(picture);

let thumbnails = new Map();
for (let round = 0; round < Number(rounds); round += 1) {
  thumbnails = new Map();
  for (const edge of edges.map(Number)) {
    const bytes = await sharp(data)
      .autoOrient()
      .resize({ width: edge, height: edge, fit: "inside", withoutEnlargement: true })
      .jpeg({ quality: Number(quality) })
      .toBuffer();
    thumbnails.set(edge, bytes);
  }
}
for (const [edge, bytes] of thumbnails) await writeFile(join(directory, `${edge}.jpg`), bytes);
const status = await readFile("/proc/self/status", "utf8");
await writeFile(join(directory, "peak_rss_kib"), /VmHWM:\s*(\d+)/.exec(status)[1]);
