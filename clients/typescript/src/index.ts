export * from './client.js';
export { MediaError, InvalidRequest, NotFound, NotAllowed, Conflict, TooMany, Unavailable } from './errors.js';
export { StoreRefused, FileChanged, MediaDeleted, MediaFailed } from './errors.js';
export * as media from './generated/avion/media_pb.js';
export type { Development } from './testing.js';
