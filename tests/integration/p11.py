# SPDX-License-Identifier: MIT
"""Puts keys onto a test token through its PKCS#11 module, in a process of its own:

    p11.py MODULE INIT_ARGS TOKEN PIN COMMAND...

with commands KIND:LABEL:ID (KIND of rsa2048, ecP256, aes256 …; ID in hexadecimal), -LABEL (deletes all objects of this
label) and !OLD:NEW (changes the PIN).  The PINs here belong to tokens that live as long as one test."""

import ctypes
import sys

ULONG = ctypes.c_ulong
# Places in CK_FUNCTION_LIST.
CALLS = {"C_Initialize": 0, "C_Finalize": 1, "C_GetSlotList": 4, "C_GetTokenInfo": 6, "C_InitPIN": 10, "C_SetPIN": 11, "C_OpenSession": 12,
         "C_CloseSession": 13, "C_Login": 18, "C_Logout": 19, "C_DestroyObject": 22, "C_FindObjectsInit": 26, "C_FindObjects": 27,
         "C_FindObjectsFinal": 28, "C_GenerateKey": 58, "C_GenerateKeyPair": 59}
CKA = {"class": 0, "token": 1, "private": 2, "label": 3, "id": 0x102, "sensitive": 0x103, "encrypt": 0x104, "decrypt": 0x105,
       "wrap": 0x106, "unwrap": 0x107, "sign": 0x108, "verify": 0x10A, "modulus_bits": 0x121, "public_exponent": 0x122,
       "value_len": 0x161, "extractable": 0x162, "ec_params": 0x180}
CURVES = {"ecP256": bytes.fromhex("06082a8648ce3d030107"), "ecP384": bytes.fromhex("06052b81040022"), "ecP521": bytes.fromhex("06052b81040023")}


class Attribute(ctypes.Structure):
    _fields_ = [("type", ULONG), ("value", ctypes.c_void_p), ("len", ULONG)]


class Mechanism(ctypes.Structure):
    _fields_ = [("mechanism", ULONG), ("parameter", ctypes.c_void_p), ("len", ULONG)]


class InitArgs(ctypes.Structure):
    _fields_ = [("mutexes", ctypes.c_void_p * 4), ("flags", ULONG), ("reserved", ctypes.c_char_p), ("more", ctypes.c_void_p * 4)]


def template(**attributes):
    array = (Attribute * len(attributes))()
    array.keep = []
    for i, (name, value) in enumerate(attributes.items()):
        if isinstance(value, bool):
            value = bytes([value])
        elif isinstance(value, int):
            value = bytes(ULONG(value))
        elif isinstance(value, str):
            value = value.encode()
        held = ctypes.create_string_buffer(value, len(value))
        array.keep.append(held)
        array[i] = Attribute(CKA[name], ctypes.cast(held, ctypes.c_void_p), len(value))
    return array


class Module:
    def __init__(self, path, init_args):
        self.library = ctypes.CDLL(path)
        table = ctypes.c_void_p()
        assert self.library.C_GetFunctionList(ctypes.byref(table)) == 0
        self.table = ctypes.cast(table.value + ctypes.sizeof(ULONG), ctypes.POINTER(ctypes.c_void_p))
        args = InitArgs(flags=2, reserved=init_args.encode() if init_args else None)
        self.call("C_Initialize", ctypes.byref(args))

    def call(self, name, *args):
        function = ctypes.CFUNCTYPE(ULONG)(self.table[CALLS[name]])
        rv = function(*[ULONG(a) if isinstance(a, int) else a for a in args])
        if rv != 0:
            sys.exit(f"{name}: {rv:#x}")

    def open(self, label):
        slots, count = (ULONG * 64)(), ULONG(64)
        self.call("C_GetSlotList", 1, slots, ctypes.byref(count))
        for slot in slots[:count.value]:
            info = ctypes.create_string_buffer(512)
            self.call("C_GetTokenInfo", slot, info)
            if info.raw[:32].decode().rstrip() == label:
                session = ULONG()
                self.call("C_OpenSession", slot, 6, None, None, ctypes.byref(session))
                return session
        sys.exit(f"no token {label}")

    def generate(self, session, kind, label, key_id):
        common = {"token": True, "label": label, "id": bytes.fromhex(key_id)}
        secret = {"private": True, "sensitive": True, "extractable": False}
        first, second = ULONG(), ULONG()
        if kind.startswith("aes"):
            keys = template(value_len=int(kind[3:]) // 8, encrypt=True, decrypt=True, **common, **secret)
            self.call("C_GenerateKey", session, ctypes.byref(Mechanism(0x1080, None, 0)), keys, len(keys), ctypes.byref(first))
            return
        if kind.startswith("rsa"):
            mechanism = Mechanism(0x0, None, 0)
            public = template(modulus_bits=int(kind[3:]), public_exponent=b"\1\0\1", encrypt=True, verify=True, wrap=True, **common)
            private = template(sign=True, decrypt=True, unwrap=True, **common, **secret)
        else:
            mechanism = Mechanism(0x1040, None, 0)
            public = template(ec_params=CURVES[kind], verify=True, **common)
            private = template(sign=True, **common, **secret)
        self.call("C_GenerateKeyPair", session, ctypes.byref(mechanism), public, len(public), private, len(private),
                  ctypes.byref(first), ctypes.byref(second))

    def delete(self, session, label):
        wanted, objects, count = template(label=label), (ULONG * 64)(), ULONG()
        self.call("C_FindObjectsInit", session, wanted, len(wanted))
        self.call("C_FindObjects", session, objects, 64, ctypes.byref(count))
        self.call("C_FindObjectsFinal", session)
        for handle in objects[:count.value]:
            self.call("C_DestroyObject", session, handle)


def main(path, init_args, token, pin, *commands):
    module = Module(path, init_args)
    session = module.open(token)
    if "init-pin" in commands:
        module.call("C_Login", session, 0, b"", 0)
        module.call("C_InitPIN", session, pin.encode(), len(pin))
        module.call("C_Logout", session)
    module.call("C_Login", session, 1, pin.encode(), len(pin))
    for command in commands:
        if command.startswith("-"):
            module.delete(session, command[1:])
        elif command.startswith("!"):
            old, new = command[1:].split(":")
            module.call("C_SetPIN", session, old.encode(), len(old), new.encode(), len(new))
        elif command != "init-pin":
            module.generate(session, *command.split(":"))
    module.call("C_Finalize", None)


if __name__ == "__main__":
    main(*sys.argv[1:])
