// A receiver of webhooks for the tests: `node webhook-receiver.js KEY`.
//
// Verifies each request with the official Standard Webhooks library, or, if KEY is a public key (`whpk_…`), with Node's own
// ed25519, since the library knows `v1` only. Answers 204, or 401 if the signature does not fit. Prints one JSON line,
// {"port":…}, when it listens, and one per request: {"accepted":…,"error":…,"headers":…,"body":…}, the body in base64. Ends
// when its standard input ends, so that no receiver outlives its test.
'use strict';

const crypto = require('crypto');
const http = require('http');
const { Webhook } = require('standardwebhooks');

const key = process.argv[2];
const print = (line) => process.stdout.write(JSON.stringify(line) + '\n');

const verifyEd25519 = (body, headers) => {
  const x = Buffer.from(key.slice('whpk_'.length), 'base64').toString('base64url');
  const publicKey = crypto.createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  const signed = Buffer.concat([Buffer.from(`${headers['webhook-id']}.${headers['webhook-timestamp']}.`), body]);
  const fits = headers['webhook-signature'].split(' ').some((entry) => {
    const [version, signature] = entry.split(',');
    return version === 'v1a' && crypto.verify(null, signed, publicKey, Buffer.from(signature, 'base64'));
  });
  if (!fits) throw new Error('No matching signature found');
};

const verify = key.startsWith('whpk_') ? verifyEd25519 : (body, headers) => new Webhook(key).verify(body, headers);

const server = http.createServer((request, response) => {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    const body = Buffer.concat(chunks);
    let error = null;
    try {
      verify(body, request.headers);
    } catch (problem) {
      error = problem.message;
    }
    print({ accepted: error === null, error, headers: request.headers, body: body.toString('base64') });
    response.writeHead(error === null ? 204 : 401).end();
  });
});

server.listen(0, '127.0.0.1', () => print({ port: server.address().port }));
process.stdin.resume().on('end', () => process.exit(0));
