// Make a zip archive of {name: Uint8Array}. Files are stored uncompressed, as PNGs are compressed already.
function makeZip(files) {
  const table = Array.from({ length: 256 }, (_, n) => {
    for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
    return n >>> 0;
  });
  const checksum = (bytes) => ~bytes.reduce((sum, byte) => table[(sum ^ byte) & 255] ^ (sum >>> 8), -1) >>> 0;
  const record = (fields) => {
    const view = new DataView(new ArrayBuffer(fields.reduce((sum, [size]) => sum + size, 0)));
    let at = 0;
    for (const [size, value] of fields) {
      view[size === 2 ? "setUint16" : "setUint32"](at, value, true);
      at += size;
    }
    return new Uint8Array(view.buffer);
  };
  const [local, central] = [[], []];
  let offset = 0;
  for (const [name, bytes] of Object.entries(files)) {
    const encoded = new TextEncoder().encode(name);
    const [utf8, stored, noDate] = [0x800, 0, 0x00210000]; // 1 January 1980
    const about = [[2, 20], [2, utf8], [2, stored], [4, noDate], [4, checksum(bytes)], [4, bytes.length], [4, bytes.length], [2, encoded.length], [2, 0]];
    const header = record([[4, 0x04034b50], ...about]);
    local.push(header, encoded, bytes);
    central.push(record([[4, 0x02014b50], [2, 20], ...about, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]]), encoded);
    offset += header.length + encoded.length + bytes.length;
  }
  const listed = central.reduce((sum, part) => sum + part.length, 0);
  const count = Object.keys(files).length;
  const end = record([[4, 0x06054b50], [2, 0], [2, 0], [2, count], [2, count], [4, listed], [4, offset], [2, 0]]);
  return new Blob([...local, ...central, end], { type: "application/zip" });
}
