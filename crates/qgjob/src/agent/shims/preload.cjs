'use strict';
// Loaded into every node process of a job by NODE_OPTIONS=--require. The port of AppWright's Appium, 4723, is
// fixed in its source; connections to it on this machine go to the gateway of this attempt instead.
const gateway = Number(process.env.QGJOB_GATEWAY_PORT || 0);
if (gateway && gateway !== 4723) {
  const net = require('net');
  const here = new Set(['', 'localhost', '127.0.0.1', '::1', '0.0.0.0']);
  const connect = net.Socket.prototype.connect;
  net.Socket.prototype.connect = function (...args) {
    // net.connect() passes its arguments as one array it has put in order: [options, callback].
    const options = Array.isArray(args[0]) ? args[0][0] : args[0];
    if (options && typeof options === 'object' && Number(options.port) === 4723 && here.has(options.host || '')) {
      options.port = gateway;
      options.host = '127.0.0.1';
    }
    return connect.apply(this, args);
  };
}
