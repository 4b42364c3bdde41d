// The details of an error (google.rpc): grpc-js leaves them encoded in the metadata `grpc-status-details-bin`.
import protobuf from 'protobufjs';

// What is needed here of google/rpc/status.proto and google/rpc/error_details.proto.
const { root } = protobuf.parse(`
  syntax = "proto3";
  package google.rpc;
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message RetryInfo { Duration retry_delay = 1; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message BadRequest {
    message FieldViolation { string field = 1; string description = 2; string reason = 3; }
    repeated FieldViolation field_violations = 1;
  }
`);
const decode = (name, bytes) => root.lookupType(`google.rpc.${name}`).decode(bytes);

/** The reasons of bad fields, the reason of the error, and when to try again; each where the service gave it. */
export function detailsOf(error) {
  const found = {};
  const [encoded] = error.metadata.get('grpc-status-details-bin');
  for (const { typeUrl, value } of encoded ? decode('Status', encoded).details : []) {
    const name = typeUrl.split('.').pop();
    if (name === 'BadRequest') {
      const violations = decode(name, value).fieldViolations;
      found.fields = Object.fromEntries(violations.map(({ field, reason }) => [field, reason]));
    } else if (name === 'ErrorInfo') {
      found.reason = decode(name, value).reason;
    } else if (name === 'RetryInfo') {
      const { seconds, nanos } = decode(name, value).retryDelay;
      found.retryAfterSeconds = Number(seconds) + nanos / 1e9;
    }
  }
  return found;
}
