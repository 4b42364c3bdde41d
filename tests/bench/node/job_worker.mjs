// A media worker as one writes it for Node.js: BullMQ, sharp, AWS SDK v3. One job: get the upload, make three sizes, put
// them and the original.
// usage: node job_worker.mjs <redis port> <endpoint> <bucket> <quality> <edge> [<edge> ...]
// Credentials are in the environment. Prints "ready"; ends with its standard input.
import { GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { Worker } from "bullmq";
import sharp from "sharp";

const [port, endpoint, Bucket, quality, ...edges] = process.argv.slice(2);
sharp.cache(false); // a service never sees the same upload twice
sharp.concurrency(1); // its default here; stated, since CPU time is compared
const s3 = new S3Client({ endpoint, region: "us-east-1", forcePathStyle: true });

async function work({ data: { key, contentType } }) {
  const { Body } = await s3.send(new GetObjectCommand({ Bucket, Key: `incoming/${key}` }));
  const upload = Buffer.from(await Body.transformToByteArray());
  const put = (Key, Body, ContentType) => s3.send(new PutObjectCommand({ Bucket, Key, Body, ContentType }));
  await Promise.all(
    edges.map(Number).map(async (edge) => {
      const thumbnail = await sharp(upload)
        .autoOrient()
        .resize({ width: edge, height: edge, fit: "inside", withoutEnlargement: true })
        .jpeg({ quality: Number(quality), optimiseCoding: false }) // as ours: baseline, standard tables
        .toBuffer();
      await put(`thumbnail/${edge}/${key}.jpg`, thumbnail, "image/jpeg");
    }),
  );
  await put(`original/${key}`, upload, contentType);
}

const worker = new Worker("bench", work, { connection: { host: "127.0.0.1", port: Number(port) }, concurrency: 2 });
worker.on("failed", (job, error) => console.error(error)); // the bench sees it in BullMQ's own set
await worker.waitUntilReady();
console.log("ready");
process.stdin.on("end", () => worker.close().then(() => process.exit(0))).resume();
