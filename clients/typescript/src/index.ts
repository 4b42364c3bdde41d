export * from './client.js';
export { MediaError, InvalidRequest, NotFound, NotAllowed, Conflict, TooMany, Unavailable } from './errors.js';
export { StoreRefused, MediaDeleted, MediaFailed } from './errors.js';
export * as media from './generated/avion/media_pb.js';
