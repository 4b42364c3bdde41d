// What the client makes of a photo (arguments: path, id of nobody, origin), one line of JSON for each case.
// Without an origin: what it does at a service that does not know private media, and has an upload of another file.
// Without an id: what it does at a store that hangs once, then takes a file, then refuses one.
import { fileURLToPath } from 'node:url';
import { Conflict, FileChanged, InvalidRequest, media, MediaClient, MediaDeleted } from 'avion-media-client';
import { MediaFailed, NotFound, StoreRefused, Unavailable } from 'avion-media-client';

const [photo, nobody, origin] = process.argv.slice(2);
const client = MediaClient.fromEnvironment();
const say = (...what) => console.log(JSON.stringify(what));

async function raised(what, kind, call) {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof kind)) throw error;
    say(what, error.reason, error.fields, error.sentence);
  }
}

const uploadPrivate = () =>
  client.upload(photo, 'image/jpeg', { visibility: media.MediaVisibility.PRIVATE });

if (!nobody) {
  const hurried = new MediaClient(process.env.AVION_MEDIA_GRPC__BIND, { storeMs: 500 });
  say('sent again', await hurried.upload(photo, 'image/jpeg'));
  await raised('refused', StoreRefused, () => hurried.upload(photo, 'image/jpeg'));
  const takesAToken = (address) => {
    try {
      new MediaClient(address, { token: 'secret' }).close();
      return true;
    } catch (error) {
      if (!error.message.includes('pass tlsCa')) throw error;
      return false;
    }
  };
  say('in clear', process.env.ADDRESSES.split(' ').filter(takesAToken));
  process.exit();
}
if (!origin) {
  await raised('older', Unavailable, uploadPrivate);
  const resume = { mediaId: nobody, uploadId: 'upload' };
  await raised('changed', FileChanged, () => client.upload(photo, 'image/jpeg', { resume }));
  say('joined', await client.upload(photo, 'image/jpeg', { resume: { mediaId: nobody, uploadId: 'joined' } }));
  await client.delete([nobody], { delayMs: 0 });
  process.exit();
}
const mediaId = await client.upload(photo, 'image/jpeg', { owner: 'alice' });
await client.wait(mediaId);
say('not owned', (await client.delete([mediaId], { owner: 'bob' }))[0] === mediaId);
say('deleted', await client.delete([mediaId], { owner: 'alice' }));
await raised('wait', MediaDeleted, () => client.wait(mediaId));
say('restored', (await client.undelete([mediaId])).restored[0] === mediaId);
say('state', media.MediaStatus_State[(await client.wait(mediaId)).state]);
await raised('unknown', NotFound, () => client.status(nobody));
await raised('invalid', InvalidRequest, () => client.upload(photo, 'image/jpeg', { owner: 'a b' }));
await client.upload(photo, 'text/plain').catch((error) => say('refused', error.message.split(': ')[0], error.sentence));
const granted = await client.call(media.MediaService.method.requestMediaUpload, {
  filename: 'a.jpg', contentType: 'image/jpeg', size: 9n,
});
await client.complete(granted.mediaId).catch((error) => {
  if (!(error instanceof Conflict) || error.mediaId !== granted.mediaId) throw error;
  say('early', error.reason, error.fields, error.sentence);
});
try {
  await client.wait(await client.upload(fileURLToPath(import.meta.url), 'image/png', { filename: 'program.png' }));
} catch (error) {
  if (!(error instanceof MediaFailed)) throw error;
  say('failed', error.reason, error.sentence, error.retryable);
}
const secret = await client.wait(await uploadPrivate());
const { tokens } = await client.sign([secret.mediaId], { ttlMs: 600_000, audience: 'bob' });
const url = origin + secret.path.replace('{token}', tokens[secret.mediaId]);
say('signed', (await fetch(url)).status);
await client.revoke([secret.mediaId], 'bob');
say('revoked', (await fetch(url)).status);
client.close();
