// SPDX-License-Identifier: Apache-2.0
//! AES-128-GCM and AES-128-CMAC over the standard library's AES-NI and PCLMUL code.

const std = @import("std");
const Gcm = std.crypto.aead.aes_gcm.Aes128Gcm;
const Cmac = std.crypto.auth.cmac.CmacAes128;

comptime {
    // Without these the library falls back to tables, whose timing shows the key.
    if (!std.crypto.core.aes.has_hardware_support) @compileError("needs aes, pclmul and avx");
}

const success: c_uint = 0x0;
const invalid_parameter: c_uint = 0x2;
const mac_mismatch: c_uint = 0x3001;

const pclmulqdq: u64 = 1 << 13;
const aes: u64 = 1 << 14;
const avx: u64 = 1 << 16;
const xfrm_avx: u64 = 1 << 2;

const Bytes = [*c]const u8;

fn slice(bytes: Bytes, len: u32) []const u8 {
    return if (len == 0) &.{} else bytes[0..len];
}

/// A length without a buffer, or a length the vendor's functions refuse.
fn bad(bytes: Bytes, len: u32) bool {
    return len >= std.math.maxInt(i32) or (len > 0 and bytes == null);
}

/// Say whether the CPU has what this code was compiled for: 0 yes.
export fn tee_crypto_start(cpu_features: u64, xfrm: u64) c_int {
    const needed = pclmulqdq | aes | avx;
    return if (cpu_features & needed == needed and xfrm & xfrm_avx != 0) 0 else -1;
}

export fn sgx_rijndael128GCM_encrypt(key: ?*const [16]u8, src: Bytes, src_len: u32, dst: [*c]u8, iv: Bytes, iv_len: u32, aad: Bytes, aad_len: u32, mac: ?*[16]u8) c_uint {
    if (key == null or mac == null or iv == null or iv_len != 12) return invalid_parameter;
    if (bad(src, src_len) or bad(dst, src_len) or bad(aad, aad_len)) return invalid_parameter;
    if (src == null and aad == null) return invalid_parameter;
    const out: []u8 = if (src_len == 0) &.{} else dst[0..src_len];
    Gcm.encrypt(out, mac.?, slice(src, src_len), slice(aad, aad_len), iv[0..12].*, key.?.*);
    return success;
}

export fn sgx_rijndael128GCM_decrypt(key: ?*const [16]u8, src: Bytes, src_len: u32, dst: [*c]u8, iv: Bytes, iv_len: u32, aad: Bytes, aad_len: u32, mac: ?*const [16]u8) c_uint {
    if (key == null or mac == null or iv == null or iv_len != 12) return invalid_parameter;
    if (bad(src, src_len) or bad(dst, src_len) or bad(aad, aad_len)) return invalid_parameter;
    if (src == null and aad == null) return invalid_parameter;
    const out: []u8 = if (src_len == 0) &.{} else dst[0..src_len];
    Gcm.decrypt(out, slice(src, src_len), mac.?.*, slice(aad, aad_len), iv[0..12].*, key.?.*) catch {
        std.crypto.secureZero(u8, out);
        return mac_mismatch;
    };
    return success;
}

export fn sgx_rijndael128_cmac_msg(key: ?*const [16]u8, src: Bytes, src_len: u32, mac: ?*[16]u8) c_uint {
    if (key == null or mac == null or src == null or bad(src, src_len)) return invalid_parameter;
    Cmac.create(mac.?, slice(src, src_len), key.?);
    return success;
}
