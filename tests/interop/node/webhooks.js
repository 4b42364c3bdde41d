// Verifies webhooks by the library from npm. Input: a JSON list of [secret, headers, body]; output: a list of booleans.
const { Webhook } = require("standardwebhooks");

const verifies = ([secret, headers, body]) => {
  try {
    new Webhook(secret).verify(body, headers);
    return true;
  } catch {
    return false;
  }
};

let text = "";
process.stdin.on("data", (part) => (text += part));
process.stdin.on("end", () => console.log(JSON.stringify(JSON.parse(text).map(verifies))));
